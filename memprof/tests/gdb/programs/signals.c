// Handlers that allocate, on the thread's stack and on an alternate one, interrupting calls, faults and each other. A fault
// is at a function's first instruction: what is before it belongs to another function.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096
#define BARRIER(value) __asm__ volatile ("" : "+r"(value) : : "memory")

void touch(volatile char *place);
__asm__(".text\n.type touch,@function\ntouch:\n.cfi_startproc\nmovb $1, (%rdi)\nret\n.cfi_endproc\n.size touch,.-touch\n");

__attribute__((noinline)) static void keep(size_t size) {
    void *block = malloc(size);
    BARRIER(block);
}

static void on_usr2(int signal) { keep(signal); }

static void on_usr1(int signal) {
    keep(signal + 100);
    raise(SIGUSR2);
    keep(signal + 200);
}

static void on_fault(int signal, siginfo_t *info, void *context) {
    void *page = (void *)((unsigned long)info->si_addr & -PAGE);
    if (mprotect(page, PAGE, PROT_READ | PROT_WRITE)) _exit(1);
    keep(signal + 300 + (context == NULL));
    raise(SIGUSR1);
}

static int by_fault(const void *one, const void *other) {
    char *page = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    touch(page);
    raise(SIGUSR2);
    return *(const char *)one - *(const char *)other;
}

__attribute__((noinline)) static int interrupted(int depth) {
    volatile char padding[depth * 8 + 8];
    padding[depth] = 1;
    if (depth % 4 == 0) kill(getpid(), SIGUSR1);
    else if (depth % 4 == 1) touch(mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    else if (depth % 4 == 2) pthread_kill(pthread_self(), SIGUSR2);
    char letters[] = "signal";
    if (depth == 7) qsort(letters, 6, 1, by_fault);
    int result = depth < 16 ? interrupted(depth + 1) : 0;
    BARRIER(result);
    return result + padding[depth] + letters[0];
}

static char stack[1 << 17];

static void handle(int signal, int flags, void (*handler)(int, siginfo_t *, void *)) {
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags };
    if (sigaction(signal, &action, NULL)) _exit(1);
}

int main(void) {
    char line;
    stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
    if (read(0, &line, 1) != 1 || sigaltstack(&alternate, NULL)) return 1;
    for (int round = 0; round < 4; round++) {
        handle(SIGUSR1, round & 1 ? SA_ONSTACK : 0, (void *)on_usr1);
        handle(SIGUSR2, round & 2 ? SA_ONSTACK : 0, (void *)on_usr2);
        handle(SIGSEGV, SA_ONSTACK, on_fault);
        interrupted(0);
    }
    return 0;
}
