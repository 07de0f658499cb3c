// Touches new memory as fast as it can: `touch PAGES`, in mappings of 64 MiB that are given back.
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE = 4096, PAGES_AT_ONCE = 16384 };

__attribute__((noinline)) static void touch(volatile char *memory, long pages) {
    for (long page = 0; page < pages; page++) memory[page * PAGE] = 1;
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    for (long pages = atol(arguments[1]); pages > 0; pages -= PAGES_AT_ONCE) {
        size_t bytes = (size_t)PAGES_AT_ONCE * PAGE;
        char *memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED || madvise(memory, bytes, MADV_NOHUGEPAGE) != 0) return 3;
        touch(memory, pages < PAGES_AT_ONCE ? pages : PAGES_AT_ONCE);
        munmap(memory, bytes);
    }
    return 0;
}
