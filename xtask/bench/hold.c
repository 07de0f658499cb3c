/* hold PROGRAM ARGUMENTS...: says the number of its process, waits for a byte on standard input, and becomes the program.
 * So a tool that can only be attached is there before the program's first instruction. */
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char byte;
	if (argc < 2)
		return 2;
	dprintf(STDOUT_FILENO, "held %d\n", getpid());
	if (read(STDIN_FILENO, &byte, 1) != 1)
		return 125;
	execvp(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
