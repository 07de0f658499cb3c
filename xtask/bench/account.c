/* account PROGRAM ARGUMENTS...: runs it, and prints at its end what it and the processes that it waited for have used. By itself, and
 * small, since the kernel counts the memory of whoever starts a program as the program's own. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static long long nanoseconds(struct timeval time)
{
	return time.tv_sec * 1000000000LL + time.tv_usec * 1000LL;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	pid_t child = fork();
	if (child == 0) {
		execvp(argv[1], argv + 1);
		perror(argv[1]);
		_exit(127);
	}
	int status;
	struct rusage usage;
	if (child < 0 || wait4(child, &status, 0, &usage) != child) {
		perror("account");
		return 126;
	}
	long long cpu = nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime);
	printf("\nused_cpu_ns %lld peak_bytes %lld\n", cpu, usage.ru_maxrss * 1024LL);
	fflush(stdout);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}
