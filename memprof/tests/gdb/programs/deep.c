// Stacks of 2 to 111 calls, without frame pointers.
#include <stdlib.h>
#include <unistd.h>

#define BARRIER(value) __asm__ volatile ("" : "+r"(value) : : "memory")

__attribute__((noinline)) static void *leaf(int size) {
    void *block = size % 3 ? malloc(size) : calloc(size, 2);
    BARRIER(block);
    return block;
}

__attribute__((noinline)) static void *level(int depth, int size) {
    volatile char padding[24];
    padding[depth % 24] = 1;
    void *block = depth > 1 ? level(depth - 1, size) : leaf(size);
    BARRIER(block);
    return block;
}

int main(void) {
    char line;
    if (read(0, &line, 1) != 1) return 1;
    for (int round = 0; round < 10; round++)
        for (int depth = 1; depth <= 110; depth++) {
            void *block = level(depth, depth + round);
            BARRIER(block);
        }
    return 0;
}
