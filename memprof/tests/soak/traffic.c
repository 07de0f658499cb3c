/* traffic SEED WORKERS SLOTS NAME=VALUE...: random calls of all of libc's allocator functions, by threads that share their blocks, and what they
 * come to. It does what it is told on standard input, a line each:
 *   go      lets the threads work, until
 *   pause   has all of them wait between two calls, and says what has been allocated, site by site
 *   end     ends all threads and frees all blocks, says so, and waits for another line before it ends
 * Settings, each 0 unless it is given: turnover (threads end after so many steps, and others begin), forks, libraries (one in so many steps
 * does that), rest (steps between two pauses of a millisecond), work (of a step, in rounds of a loop), resizes (in percent of the steps
 * on a live block).
 *
 * Each site is a function of its own, called by way of one of PATHS stacks. Between two steps of a thread, all that it allocated is in its
 * books or in a slot, so that what is said is exact. Nothing here but the sites allocates, besides libc where threads and libraries begin
 * and end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition) do { if (!(condition)) { dprintf(2, "traffic.c:%d: errno %d\n", __LINE__, errno); _exit(1); } } while (0)
#define NOINLINE __attribute__((noinline))

enum { PATH_BITS = 3, PATHS = 1 << PATH_BITS, MOST_WORKERS = 16, MOST_SLOTS = 1 << 16, BURST = 300, FEW = 20 };
/* What a large block has at least; see LARGE in rounds.rs. */
enum { LARGE = 256 << 10 };

/* Calls of the allocator that may allocate: what they are given, and what came of it. */
struct call {
	void *before, *after;
	size_t size;
	size_t alignment;
};

static char text[4097];

NOINLINE static void site_malloc(struct call *call) { call->after = malloc(call->size); }
NOINLINE static void site_temporary(struct call *call) { call->after = malloc(call->size); }
NOINLINE static void site_burst(struct call *call) { call->after = malloc(call->size); }
NOINLINE static void site_large(struct call *call) { call->after = malloc(call->size); }
NOINLINE static void site_thread(struct call *call) { call->after = malloc(call->size); }
NOINLINE static void site_calloc(struct call *call) { call->after = calloc(call->size, 1); }
NOINLINE static void site_realloc(struct call *call) { call->after = realloc(call->before, call->size); }
NOINLINE static void site_reallocarray(struct call *call) { call->after = reallocarray(call->before, 1, call->size); }
NOINLINE static void site_aligned_alloc(struct call *call) { call->after = aligned_alloc(call->alignment, call->size); }
NOINLINE static void site_memalign(struct call *call) { call->after = memalign(call->alignment, call->size); }
NOINLINE static void site_valloc(struct call *call) { call->after = valloc(call->size); }
NOINLINE static void site_strdup(struct call *call) { call->after = strdup(text + sizeof text - call->size); }
NOINLINE static void site_posix_memalign(struct call *call)
{
	if (posix_memalign(&call->after, call->alignment, call->size))
		call->after = NULL;
}
/* Each of the two libraries has a function `library_allocate`. */
static void *(*allocate_in_library)(size_t size);
NOINLINE static void site_first_library(struct call *call) { call->after = allocate_in_library(call->size); }
NOINLINE static void site_second_library(struct call *call) { call->after = allocate_in_library(call->size); }

#define SITES(each) each(malloc) each(temporary) each(burst) each(large) each(thread) each(calloc) each(realloc) each(reallocarray) \
	each(aligned_alloc) each(memalign) each(valloc) each(strdup) each(posix_memalign) each(first_library) each(second_library)
enum site {
#define NUMBER(name) of_##name,
	SITES(NUMBER)
	COUNT_OF_SITES
};
static void (*const sites[])(struct call *) = {
#define FUNCTION(name) site_##name,
	SITES(FUNCTION)
};
static const char *const names[] = {
#define NAME(name) "site_" #name,
	SITES(NAME)
};

static void step(int bits, int path, enum site site, struct call *call);
NOINLINE static void left(int bits, int path, enum site site, struct call *call) { step(bits, path, site, call); }
NOINLINE static void right(int bits, int path, enum site site, struct call *call) { step(bits, path, site, call); }
NOINLINE static void step(int bits, int path, enum site site, struct call *call)
{
	if (bits == 0)
		sites[site](call);
	else if (path >> (bits - 1) & 1)
		right(bits - 1, path, site, call);
	else
		left(bits - 1, path, site, call);
}

enum { KEYS = COUNT_OF_SITES * PATHS };

struct sum {
	uint64_t allocations, bytes, frees, freed;
};

struct block {
	void *pointer;
	size_t size;
	int key;
	/* Nanoseconds; it was allocated between the two. */
	uint64_t after, before;
};

struct slot {
	atomic_flag is_taken;
	struct block block;
};

/* Children that have ended. */
struct children {
	uint64_t count, outstanding, outstanding_blocks;
	struct sum sum;
};

struct worker {
	pthread_t id;
	/* Whether there is a thread, whether it waits, and whether it is about to end. */
	int exists, waits, ends;
	uint64_t random;
	/* How many percent of the slots it is going to fill, and for how many steps more. */
	unsigned fill;
	long steps_of_phase, steps_left;
	struct block of_thread;
	struct sum sums[KEYS];
	struct children children;
};

static struct worker workers[MOST_WORKERS];
static struct slot slots[MOST_SLOTS];
static long seed, worker_count, slot_count, turnover, forks, libraries, rest, work, resizes;
static pthread_mutex_t control = PTHREAD_MUTEX_INITIALIZER, loading = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER, resumed = PTHREAD_COND_INITIALIZER;
static atomic_int is_pausing, is_over;
static pthread_key_t block_of_thread;
/* At least what was outstanding at any moment. */
static _Atomic uint64_t live, most_live;
static volatile unsigned sink;
static char *program, folder[4096];

/* SplitMix64: Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014. */
static uint64_t next(uint64_t *state)
{
	uint64_t word = *state += 0x9e3779b97f4a7c15;
	word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9;
	word = (word ^ word >> 27) * 0x94d049bb133111eb;
	return word ^ word >> 31;
}
static uint64_t below(struct worker *me, uint64_t limit) { return next(&me->random) % limit; }
static int one_in(struct worker *me, uint64_t count) { return count && below(me, count) == 0; }

static uint64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * UINT64_C(1000000000) + time.tv_nsec;
}

static void count_live(int64_t bytes)
{
	uint64_t is = atomic_fetch_add(&live, bytes) + bytes, most = most_live;
	while (is > most && !atomic_compare_exchange_weak(&most_live, &most, is));
}

/* Most are small, a few of several megabytes. */
static size_t some_size(struct worker *me)
{
	switch (below(me, 16)) {
	case 0: return below(me, 4);
	case 1: case 2: return below(me, 1 << 10);
	case 3: return below(me, 16 << 10);
	case 4: return one_in(me, 256) ? below(me, 4 << 20) : below(me, 100 << 10);
	default: return 1 + below(me, 128);
	}
}

/* Calls a site: what it returns is in the books, and what it was given in place of that is out of them. A size of which there cannot be so
 * much has it fail. */
static struct block call_site(struct worker *me, enum site site, struct block old, size_t size)
{
	int path = below(me, PATHS), key = site * PATHS + path;
	struct call call = {.before = old.pointer, .size = size, .alignment = UINT64_C(16) << below(me, 9)};
	if (site == of_strdup)
		call.size = size = size % (sizeof text - 1) + 1;
	if (size <= PTRDIFF_MAX)
		count_live(size);
	uint64_t after = now();
	step(PATH_BITS, path, site, &call);
	uint64_t before = now();
	int resizes_old = old.pointer && (call.after || size == 0);
	if (resizes_old) {
		me->sums[old.key].frees++;
		me->sums[old.key].freed += old.size;
		count_live(-old.size);
	}
	if (!call.after) {
		CHECK(size > PTRDIFF_MAX || (old.pointer && size == 0));
		return resizes_old ? (struct block){0} : old;
	}
	CHECK(size <= PTRDIFF_MAX);
	me->sums[key].allocations++;
	me->sums[key].bytes += size;
	return (struct block){call.after, size, key, after, before};
}

static void release(struct worker *me, struct block *block)
{
	if (!block->pointer)
		return;
	free(block->pointer);
	me->sums[block->key].frees++;
	me->sums[block->key].freed += block->size;
	count_live(-block->size);
	block->pointer = NULL;
}

static struct block allocate(struct worker *me, enum site site, size_t size) { return call_site(me, site, (struct block){0}, size); }

/* Of the sites that allocate a block that stays. */
static struct block allocate_anyhow(struct worker *me)
{
	static const enum site lasting[] = {of_malloc, of_malloc, of_malloc, of_calloc, of_calloc, of_realloc, of_reallocarray,
					    of_aligned_alloc, of_memalign, of_valloc, of_strdup, of_posix_memalign};
	if (one_in(me, 1000))
		return allocate(me, of_large, LARGE + below(me, 1 << 20));
	enum site site = lasting[below(me, sizeof lasting / sizeof *lasting)];
	/* strdup's cannot be empty, and the others' have to be told from failures. */
	return allocate(me, site, some_size(me) + (site == of_realloc || site == of_reallocarray));
}

/* Calls that allocate nothing. */
static void fail(struct worker *me, struct block *block)
{
	volatile size_t too_much = PTRDIFF_MAX;
	void *nothing = NULL;
	switch (below(me, 5)) {
	case 0: CHECK(!malloc(too_much + 1)); return;
	case 1: CHECK(!calloc(too_much, 4)); return;
	case 2: CHECK(posix_memalign(&nothing, 3, 100) == EINVAL); return;
	case 3: free(nothing); return;
	default: *block = call_site(me, one_in(me, 2) ? of_realloc : of_reallocarray, *block, too_much + 1); return;
	}
}

static void step_on_slot(struct worker *me)
{
	struct slot *slot = &slots[below(me, slot_count)];
	if (atomic_flag_test_and_set(&slot->is_taken))
		return;
	struct block *block = &slot->block;
	if (one_in(me, 100)) {
		fail(me, block);
	} else if (!block->pointer) {
		if (below(me, 100) < me->fill)
			*block = allocate_anyhow(me);
	} else if (below(me, 100) < (uint64_t)resizes) {
		/* A size of zero frees it. */
		size_t size = one_in(me, 4) ? block->size / 2 : one_in(me, 50) ? 0 : some_size(me);
		*block = call_site(me, one_in(me, 2) ? of_realloc : of_reallocarray, *block, size);
	} else if (below(me, 100) >= me->fill) {
		release(me, block);
	}
	atomic_flag_clear(&slot->is_taken);
}

static void burst(struct worker *me)
{
	struct block blocks[BURST];
	for (int i = 0; i < BURST; i++)
		blocks[i] = allocate(me, of_burst, some_size(me));
	for (int i = 0; i < BURST; i++)
		release(me, &blocks[(i * 7) % BURST]);
}

static void put(struct worker *me, struct block block)
{
	struct slot *slot = &slots[below(me, slot_count)];
	while (atomic_flag_test_and_set(&slot->is_taken))
		slot = &slots[below(me, slot_count)];
	release(me, &slot->block);
	slot->block = block;
	atomic_flag_clear(&slot->is_taken);
}

/* A library comes, allocates, and goes: its blocks stay, and another may come to its place. */
static void use_library(struct worker *me)
{
	int is_second = one_in(me, 2);
	char path[sizeof folder + 20];
	struct block blocks[FEW];
	snprintf(path, sizeof path, "%s/%s.so", folder, is_second ? "second" : "first");
	pthread_mutex_lock(&loading);
	void *library = dlopen(path, RTLD_NOW);
	CHECK(library && (allocate_in_library = dlsym(library, "library_allocate")));
	for (int i = 0; i < FEW; i++)
		blocks[i] = allocate(me, is_second ? of_second_library : of_first_library, some_size(me));
	CHECK(!dlclose(library));
	pthread_mutex_unlock(&loading);
	for (int i = 0; i < FEW; i++)
		put(me, blocks[i]);
}

/* What a child does, and what it says of it. */
NOINLINE static struct children child_work(uint64_t random)
{
	struct worker me = {.random = random};
	struct children done = {.count = 1};
	void *kept[FEW];
	for (int i = 0; i < FEW; i++) {
		size_t size = some_size(&me) + 1;
		CHECK(kept[i] = malloc(size));
		done.sum.allocations++, done.sum.bytes += size;
		if (i % 3 == 0) {
			size_t larger = size + some_size(&me);
			CHECK(kept[i] = realloc(kept[i], larger));
			done.sum.allocations++, done.sum.bytes += larger;
			done.sum.frees++, done.sum.freed += size;
			size = larger;
		}
		if (i % 2) {
			free(kept[i]);
			done.sum.frees++, done.sum.freed += size;
		}
	}
	done.outstanding = done.sum.bytes - done.sum.freed;
	done.outstanding_blocks = done.sum.allocations - done.sum.frees;
	return done;
}

static void say_as_child(int output, struct children done)
{
	CHECK(write(output, &done, sizeof done) == sizeof done);
	_exit(0);
}

extern char **environ;

static void use_child(struct worker *me)
{
	int ends[2], status;
	char output[20], random[30];
	struct children done;
	pid_t child;
	CHECK(!pipe(ends));
	uint64_t of_child = next(&me->random);
	snprintf(output, sizeof output, "%d", ends[1]);
	snprintf(random, sizeof random, "%lu", (unsigned long)of_child);
	char *const again[] = {program, "child", output, random, NULL};
	int kind = below(me, 4);
	if (kind == 0) {
		CHECK(!posix_spawn(&child, program, NULL, NULL, again, environ));
	} else {
		CHECK((child = fork()) >= 0);
		if (!child) {
			/* A copy of its parent's block, which it is not charged for. */
			struct slot *slot = &slots[below(me, slot_count)];
			if (!atomic_flag_test_and_set(&slot->is_taken))
				free(slot->block.pointer);
			if (kind == 1) {
				child_work(of_child);
				execve(program, again, environ);
				_exit(1);
			}
			say_as_child(ends[1], child_work(of_child));
		}
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(read(ends[0], &done, sizeof done) == sizeof done);
	close(ends[0]), close(ends[1]);
	struct children *all = &me->children;
	all->count += done.count, all->outstanding += done.outstanding, all->outstanding_blocks += done.outstanding_blocks;
	all->sum.allocations += done.sum.allocations, all->sum.bytes += done.sum.bytes;
	all->sum.frees += done.sum.frees, all->sum.freed += done.sum.freed;
}

static void begin_phase(struct worker *me)
{
	static const unsigned fills[] = {95, 80, 50, 50, 20, 5};
	me->fill = fills[below(me, sizeof fills / sizeof *fills)];
	me->steps_of_phase = 1000 + below(me, 200000);
}

static void step_once(struct worker *me)
{
	if (me->steps_of_phase-- <= 0)
		begin_phase(me);
	for (long i = 0; i < work; i++)
		sink += i;
	if (one_in(me, forks))
		use_child(me);
	else if (one_in(me, libraries))
		use_library(me);
	else if (one_in(me, 5000))
		burst(me);
	else if (below(me, 4)) {
		struct block block = allocate(me, of_temporary, some_size(me));
		release(me, &block);
	} else
		step_on_slot(me);
	if (one_in(me, rest))
		poll(NULL, 0, 1);
}

static void free_at_end_of_thread(void *worker) { release(worker, &((struct worker *)worker)->of_thread); }

static void wait_for_go(struct worker *me)
{
	pthread_mutex_lock(&control);
	me->waits = 1;
	pthread_cond_signal(&changed);
	while (is_pausing)
		pthread_cond_wait(&resumed, &control);
	me->waits = 0;
	pthread_mutex_unlock(&control);
}

static void *run(void *argument)
{
	struct worker *me = argument;
	if (is_pausing)
		wait_for_go(me);
	me->of_thread = allocate(me, of_thread, some_size(me));
	pthread_setspecific(block_of_thread, me);
	while (!is_over && (!turnover || me->steps_left-- > 0)) {
		if (is_pausing)
			wait_for_go(me);
		else
			step_once(me);
	}
	pthread_mutex_lock(&control);
	me->ends = 1;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&control);
	return NULL;
}

/* Waits for the end of threads that are about to end. */
static void bury(void)
{
	for (int i = 0; i < worker_count; i++) {
		if (workers[i].exists && workers[i].ends) {
			CHECK(!pthread_join(workers[i].id, NULL));
			workers[i].exists = workers[i].ends = 0;
		}
	}
}

static void begin_threads(void)
{
	for (int i = 0; i < worker_count; i++) {
		if (workers[i].exists)
			continue;
		workers[i].steps_left = turnover / 2 + below(&workers[i], turnover + 1);
		CHECK(!pthread_create(&workers[i].id, NULL, run, &workers[i]));
		workers[i].exists = 1;
	}
}

/* Until each thread waits, or has ended. */
static void quiesce(void)
{
	pthread_mutex_lock(&control);
	for (int i = 0; i < worker_count; i++)
		while (workers[i].exists && !workers[i].waits && !workers[i].ends)
			pthread_cond_wait(&changed, &control);
	pthread_mutex_unlock(&control);
	bury();
}

static void resume(void)
{
	pthread_mutex_lock(&control);
	is_pausing = 0;
	pthread_cond_broadcast(&resumed);
	pthread_mutex_unlock(&control);
}

static void say(const char *line) { CHECK(write(1, line, strlen(line)) == (ssize_t)strlen(line)); }

/* Of the oldest and of the youngest block of a key: moments that it was allocated after, and before; all 0 without a block. */
struct ages {
	uint64_t oldest_after, oldest_before, youngest_after, youngest_before;
};

static void take_age(struct ages *ages, const struct block *block)
{
	if (!block->pointer)
		return;
	struct ages *of_key = &ages[block->key];
	if (!of_key->oldest_after || block->after < of_key->oldest_after)
		of_key->oldest_after = block->after;
	if (!of_key->oldest_before || block->before < of_key->oldest_before)
		of_key->oldest_before = block->before;
	if (block->after > of_key->youngest_after)
		of_key->youngest_after = block->after;
	if (block->before > of_key->youngest_before)
		of_key->youngest_before = block->before;
}

/* For each key a line with its sums and ages; then one with what children did, and the most that was live. */
static void tell(void)
{
	static struct ages ages[KEYS];
	struct children all = {0};
	char line[300];
	memset(ages, 0, sizeof ages);
	for (int i = 0; i < slot_count; i++)
		take_age(ages, &slots[i].block);
	for (int i = 0; i < worker_count; i++)
		take_age(ages, &workers[i].of_thread);
	for (int key = 0; key < KEYS; key++) {
		struct sum sum = {0};
		for (int i = 0; i < worker_count; i++) {
			sum.allocations += workers[i].sums[key].allocations, sum.bytes += workers[i].sums[key].bytes;
			sum.frees += workers[i].sums[key].frees, sum.freed += workers[i].sums[key].freed;
		}
		if (!sum.allocations)
			continue;
		snprintf(line, sizeof line, "%s %d %lu %lu %lu %lu %lu %lu %lu %lu\n", names[key / PATHS], key % PATHS, sum.allocations,
			 sum.bytes, sum.frees, sum.freed, ages[key].oldest_after, ages[key].oldest_before, ages[key].youngest_after,
			 ages[key].youngest_before);
		say(line);
	}
	for (int i = 0; i < worker_count; i++) {
		struct children *of = &workers[i].children;
		all.count += of->count, all.outstanding += of->outstanding, all.outstanding_blocks += of->outstanding_blocks;
		all.sum.allocations += of->sum.allocations, all.sum.bytes += of->sum.bytes;
		all.sum.frees += of->sum.frees, all.sum.freed += of->sum.freed;
	}
	snprintf(line, sizeof line, "all %lu %lu %lu %lu %lu %lu %lu %lu\n", all.count, all.outstanding, all.outstanding_blocks,
		 all.sum.allocations, all.sum.bytes, all.sum.frees, all.sum.freed, (unsigned long)most_live);
	say(line);
}

static void read_line(char *line, size_t size)
{
	size_t length = 0;
	do CHECK(length < size && read(0, line + length, 1) == 1); while (line[length++] != '\n');
}

/* Whether a line has come; meanwhile, threads that have ended make room for others. */
static int line_came(char *line, size_t size)
{
	struct pollfd input = {0, POLLIN, 0};
	if (!is_pausing)
		bury(), begin_threads();
	if (poll(&input, 1, is_pausing ? -1 : 5) <= 0)
		return 0;
	read_line(line, size);
	return 1;
}

static void set(const char *assignment)
{
	static const struct { const char *name; long *value; } settings[] = {
		{"turnover", &turnover}, {"forks", &forks}, {"libraries", &libraries}, {"rest", &rest}, {"work", &work}, {"resizes", &resizes}};
	const char *value = strchr(assignment, '=');
	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
		if (value && !strncmp(settings[i].name, assignment, value - assignment)) {
			*settings[i].value = atol(value + 1);
			return;
		}
	}
	CHECK(!"a setting is known");
}

int main(int count, char **arguments)
{
	char line[20];
	program = "/proc/self/exe";
	if (count == 4 && !strcmp(arguments[1], "child"))
		say_as_child(atoi(arguments[2]), child_work(strtoul(arguments[3], NULL, 10)));
	CHECK(count >= 4);
	CHECK((seed = atol(arguments[1]), worker_count = atol(arguments[2])) <= MOST_WORKERS);
	CHECK((slot_count = atol(arguments[3])) <= MOST_SLOTS);
	for (int i = 4; i < count; i++)
		set(arguments[i]);
	memset(text, 'x', sizeof text - 1);
	CHECK(readlink(program, folder, sizeof folder - 1) > 0);
	*strrchr(folder, '/') = 0;
	CHECK(!pthread_key_create(&block_of_thread, free_at_end_of_thread));
	for (int i = 0; i < worker_count; i++)
		workers[i].random = seed * 1000003 + i;
	is_pausing = 1;
	begin_threads();
	quiesce();
	say("ready\n");
	for (;;) {
		if (!line_came(line, sizeof line))
			continue;
		if (line[0] == 'g') {
			resume();
		} else if (line[0] == 'p') {
			is_pausing = 1;
			quiesce();
			tell();
		} else {
			CHECK(line[0] == 'e');
			is_over = 1;
			resume();
			for (int i = 0; i < worker_count; i++) {
				if (workers[i].exists)
					CHECK(!pthread_join(workers[i].id, NULL));
				workers[i].exists = 0;
			}
			for (int i = 0; i < slot_count; i++)
				release(&workers[0], &slots[i].block);
			tell();
			read_line(line, sizeof line);
			return 0;
		}
	}
}
