/* pair DEPTH PAIRS KEEP_EVERY THREADS: allocates and frees, PAIRS times in each thread, DEPTH frames below the thread's first one. Of
 * KEEP_EVERY blocks one is kept; 0 keeps none. */
#include <pthread.h>

#include "clock.h"
#include "calls.h"

struct job {
	long pairs;
	long keep_every;
};

/* Frames beside those of `descend`: here `work` or `leak`, and in the first thread main and three of libc's, in others `in_thread` and
 * two of libc's. */
enum { OTHER_FRAMES = 5, OTHER_FRAMES_IN_THREAD = 4 };

__attribute__((noinline)) static void work(const struct job *job)
{
	for (long pair = 0; pair < job->pairs; pair++) {
		void *block = malloc(64);
		USE(block);
		if (!job->keep_every || pair % job->keep_every)
			free(block);
	}
}

__attribute__((noinline)) static void descend(const struct job *job, int levels)
{
	if (levels > 1) {
		descend(job, levels - 1);
	} else {
		work(job);
		leak();
	}
	NO_TAIL_CALL;
}

struct thread {
	struct job job;
	int levels;
	pthread_t id;
};

static void *in_thread(void *argument)
{
	struct thread *thread = argument;
	descend(&thread->job, thread->levels);
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	int depth = atoi(argv[1]), threads = atoi(argv[4]);
	struct job job = { atol(argv[2]), atol(argv[3]) };
	struct thread others[64];
	uint64_t start = nanoseconds();
	for (int index = 0; threads > 1 && index < threads; index++) {
		others[index] = (struct thread){ .job = job, .levels = depth - OTHER_FRAMES_IN_THREAD };
		pthread_create(&others[index].id, NULL, in_thread, &others[index]);
	}
	for (int index = 0; threads > 1 && index < threads; index++)
		pthread_join(others[index].id, NULL);
	if (threads <= 1)
		descend(&job, depth - OTHER_FRAMES);
	report_work(STDOUT_FILENO, start);
	stay();
	return 0;
}
