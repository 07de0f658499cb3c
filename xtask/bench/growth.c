/* growth BUFFERS: grows BUFFERS buffers, each from 16 bytes to 16 KiB, by doubling: 11 calls of realloc, then a free. */
#include "clock.h"
#include "calls.h"

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	long buffers = atol(argv[1]);
	uint64_t start = nanoseconds();
	for (long buffer = 0; buffer < buffers; buffer++) {
		void *block = NULL;
		for (size_t size = 16; size <= 16384; size *= 2) {
			block = realloc(block, size);
			USE(block);
		}
		free(block);
	}
	leak_below(10);
	report_work(STDOUT_FILENO, start);
	stay();
	return 0;
}
