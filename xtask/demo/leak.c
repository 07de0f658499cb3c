/* Leaks 456 bytes in 3 allocations: 2 * 100 at one line, 16 * 16 at another. With --wait it does so when it is sent
 * a byte. With --serve it goes on, slowly, until it is stopped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

static void *remember_request(void) {
    return malloc(100);
}

static void *open_table(void) {
    return calloc(16, 16);
}

/* Allocates and frees: outstanding only for a moment. */
static void answer_request(int number) {
    char *answer = malloc(4096);
    if (answer != NULL)
        snprintf(answer, 4096, "answer %d", number);
    free(answer);
}

static void serve(void) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    for (int number = 0;; number++) {
        answer_request(number);
        remember_request();
        if (number % 10 == 0)
            open_table();
        usleep(10 * 1000);
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--serve") == 0)
        serve();
    char byte;
    if (argc > 1 && strcmp(argv[1], "--wait") == 0 && read(STDIN_FILENO, &byte, 1) != 1)
        return 1;
    for (int i = 0; i < 2; i++)
        remember_request();
    open_table();
    return 0;
}
