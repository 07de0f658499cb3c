/* What every workload prints when its work is done, for `cargo xtask bench` to read: how long it took, and the processor time that
 * its whole process has used. */
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

static uint64_t nanoseconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * UINT64_C(1000000000) + now.tv_nsec;
}

static uint64_t nanoseconds_of(struct timeval time)
{
	return time.tv_sec * UINT64_C(1000000000) + time.tv_usec * UINT64_C(1000);
}

__attribute__((unused)) static void report_work(int descriptor, uint64_t start)
{
	uint64_t elapsed = nanoseconds() - start;
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	uint64_t cpu = nanoseconds_of(usage.ru_utime) + nanoseconds_of(usage.ru_stime);
	dprintf(descriptor, "\nworked_ns %llu cpu_ns %llu\n", (unsigned long long)elapsed, (unsigned long long)cpu);
}
