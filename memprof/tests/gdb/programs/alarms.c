// A timer interrupts whatever is being done: prologues, epilogues, stubs of the procedure linkage table, libc, the vdso. The
// handler is on a stack of its own and allocates.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define ALARMS 600
#define BARRIER(value) __asm__ volatile ("" : "+r"(value) : : "memory")

static volatile int alarms;

__attribute__((noinline)) void mark(void *block) { BARRIER(block); }

static void handle(int signal) {
    void *block = malloc(64);
    mark(block);
    alarms++;
}

static int compare(const void *one, const void *other) { return *(const int *)one - *(const int *)other; }

__attribute__((noinline)) static long mix(long a, long b, long c, long d, int depth) {
    long e = a * 3 + b, f = b ^ c, g = c + d * 5, h = d - a;
    if (depth > 0) {
        a = mix(e, f, g, h, depth - 1);
        b = mix(h, a, f, e, depth / 2);
    }
    BARRIER(b);
    return a + b + e * f - g * h;
}

__attribute__((noinline)) static long in_area(int size) {
    char area[size];
    memset(area, size, size);
    return area[size / 2] + strtol("12345", NULL, 10);
}

__attribute__((noinline)) static long call_libc(int round) {
    struct timespec now;
    int numbers[32];
    char text[64];
    clock_gettime(CLOCK_MONOTONIC, &now);
    for (int i = 0; i < 32; i++) numbers[i] = i * 3;
    // Not `qsort`: it calls `free`, where a probe takes so long that nearly every alarm would be there.
    const int *found = bsearch(&round, numbers, 32, sizeof *numbers, compare);
    snprintf(text, sizeof text, "%d %ld %s", round, now.tv_nsec, "text");
    return strlen(text) + (found ? *found : 0) + getpid() + in_area(100 + round % 400);
}

static char stack[1 << 16];

int main(void) {
    char line;
    stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
    struct sigaction action = { .sa_handler = handle, .sa_flags = SA_ONSTACK };
    if (read(0, &line, 1) != 1 || sigaltstack(&alternate, NULL) || sigaction(SIGALRM, &action, NULL)) return 1;
    long sum = 0;
    for (int number = 0; number < ALARMS; number++) {
        struct itimerval once = { .it_value.tv_usec = 200 + number * 97 % 1801 };
        if (setitimer(ITIMER_REAL, &once, NULL)) return 1;
        for (int round = 0; alarms == number; round++) sum += mix(round, 2, 3, 4, 8) + call_libc(round);
    }
    BARRIER(sum);
    return 0;
}
