/* scale BLOCKS THREADS: does what it is told on standard input, a line each, and says when it is done and how much that was.
 *   fill             makes BLOCKS live blocks
 *   pairs SECONDS    allocates blocks and frees each at once
 *   replace SECONDS  frees the oldest of the live blocks, and allocates another
 * THREADS threads share the work. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "calls.h"

enum { MOST_THREADS = 64, BLOCK_SIZE = 48 };

struct share {
	pthread_t id;
	void **blocks;
	long count;
	long next;
	long done;
};

static struct share shares[MOST_THREADS];
static int threads;
static uint64_t deadline;

static void *fill(void *argument)
{
	struct share *share = argument;
	for (share->done = 0; share->done < share->count; share->done++)
		share->blocks[share->done] = malloc(BLOCK_SIZE);
	return NULL;
}

static void *pairs(void *argument)
{
	struct share *share = argument;
	for (share->done = 0; share->done % 1024 || nanoseconds() < deadline; share->done++) {
		void *block = malloc(BLOCK_SIZE);
		USE(block);
		free(block);
	}
	return NULL;
}

static void *replace(void *argument)
{
	struct share *share = argument;
	for (share->done = 0; share->done % 1024 || nanoseconds() < deadline; share->done++) {
		free(share->blocks[share->next]);
		share->blocks[share->next] = malloc(BLOCK_SIZE);
		share->next = (share->next + 1) % share->count;
	}
	return NULL;
}

/* In all threads, each of which has its own share. */
static void run(void *(*work)(void *), long seconds)
{
	uint64_t start = nanoseconds();
	long done = 0;
	deadline = start + seconds * UINT64_C(1000000000);
	for (int index = 0; index < threads; index++)
		pthread_create(&shares[index].id, NULL, work, &shares[index]);
	for (int index = 0; index < threads; index++) {
		pthread_join(shares[index].id, NULL);
		done += shares[index].done;
	}
	dprintf(STDOUT_FILENO, "done %ld elapsed_ns %llu\n", done, (unsigned long long)(nanoseconds() - start));
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	long blocks = atol(argv[1]);
	threads = atoi(argv[2]);
	for (int index = 0; index < threads; index++) {
		shares[index].count = blocks / threads;
		shares[index].blocks = calloc(shares[index].count, sizeof(void *));
	}
	char line[64];
	setbuf(stdin, NULL);
	dprintf(STDOUT_FILENO, "done 0 elapsed_ns 0\n");
	while (fgets(line, sizeof line, stdin)) {
		long seconds = strtol(strchr(line, ' ') ? strchr(line, ' ') : "0", NULL, 10);
		run(line[0] == 'f' ? fill : line[0] == 'p' ? pairs : replace, seconds);
	}
	return 0;
}
