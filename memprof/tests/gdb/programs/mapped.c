// Maps the libraries that are its arguments, each just before it is on the stack.
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

#define BARRIER(value) __asm__ volatile ("" : "+r"(value) : : "memory")

typedef void *(*call_t)(int depth, void *(*leaf)(int));

__attribute__((noinline)) static void *leaf(int size) {
    void *block = malloc(size);
    BARRIER(block);
    return block;
}

int main(int count, char **arguments) {
    char line;
    if (read(0, &line, 1) != 1) return 1;
    for (int index = 1; index < count; index++) {
        void *library = dlopen(arguments[index], RTLD_NOW);
        call_t call = library ? (call_t)dlsym(library, "call") : NULL;
        if (!call) return 1;
        for (int depth = 1; depth < 40; depth++) {
            void *block = call(depth, leaf);
            BARRIER(block);
        }
    }
    return 0;
}
