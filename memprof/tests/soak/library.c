/* Compiled twice, so that there are two libraries that differ. */
#include <stdlib.h>

void *library_allocate(size_t size)
{
	void *volatile block = malloc(size);
	return block;
}
