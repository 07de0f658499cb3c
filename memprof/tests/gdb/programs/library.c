// One of several that differ by NUMBER.
#define BARRIER(value) __asm__ volatile ("" : "+r"(value) : : "memory")

void *call(int depth, void *(*leaf)(int)) {
    volatile char padding[depth % 5 * 8 + NUMBER];
    padding[0] = 1;
    void *block = depth > 1 ? call(depth - 1, leaf) : leaf(NUMBER);
    BARRIER(block);
    return block;
}
