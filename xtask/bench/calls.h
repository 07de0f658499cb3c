/* A leak that every tool is asked about, and how programs end. */
#include <stdlib.h>
#include <unistd.h>

#define LEAKED_BLOCKS 7
#define LEAKED_BLOCK_SIZE 12345

/* The block is taken for used. */
#define USE(pointer) __asm__ volatile("" : : "r"(pointer) : "memory")

/* Not to be a tail call, lest a frame be missing. */
#define NO_TAIL_CALL __asm__ volatile("" : : : "memory")

__attribute__((noinline, unused)) static void leak(void)
{
	for (int block = 0; block < LEAKED_BLOCKS; block++)
		USE(malloc(LEAKED_BLOCK_SIZE));
	NO_TAIL_CALL;
}

/* The same, with so many frames between: a stack that is wrong is not as deep by chance. */
__attribute__((noinline, unused)) static void leak_below(int levels)
{
	if (levels > 1)
		leak_below(levels - 1);
	else
		leak();
	NO_TAIL_CALL;
}

/* Until standard input ends: while it is read, the process is there to be looked at. */
__attribute__((unused)) static void stay(void)
{
	char byte;
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
}
