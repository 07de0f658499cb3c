/* account PROGRAM ARGUMENTS...: runs it, and prints at its end what it and the processes that it waited for have used.
 * It passes an interrupt on, and does not outlive who started it, nor the program it. By itself, and small, since the
 * kernel counts the memory of whoever starts a program as the program's own. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t child;

static void pass_on(int signal)
{
	kill(child, signal);
}

static long long nanoseconds(struct timeval time)
{
	return time.tv_sec * 1000000000LL + time.tv_usec * 1000LL;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		execvp(argv[1], argv + 1);
		perror(argv[1]);
		_exit(127);
	}
	if (child > 0)
		signal(SIGINT, pass_on);
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
