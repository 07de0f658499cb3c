/* One of many libraries: NUMBER tells them apart. Some functions, each of which has unwinding rows. */
#include <stdlib.h>

#define JOIN(left, right) left##right
#define NAMED(name, number) JOIN(name, number)
#define FUNCTION(name) \
	__attribute__((noinline)) void *NAMED(name, NUMBER)(int depth) \
	{ \
		void *block = depth ? NAMED(name, NUMBER)(depth - 1) : malloc(NUMBER + 1); \
		__asm__ volatile("" : : "r"(block) : "memory", "rbx", "r12"); \
		return block; \
	}

FUNCTION(first_)
FUNCTION(second_)
FUNCTION(third_)
FUNCTION(fourth_)
FUNCTION(fifth_)
FUNCTION(sixth_)
FUNCTION(seventh_)
FUNCTION(eighth_)
