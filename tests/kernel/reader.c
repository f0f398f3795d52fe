/* Reads a byte from /dev/zero again and again, in a function of its own, in a child as well: reader COUNT PAUSE_MS. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int source;
static volatile char last;

__attribute__((noinline)) static void read_one(void)
{
	char byte;

	if (read(source, &byte, 1) != 1)
		abort();
	last = byte;
}

__attribute__((noinline)) static void read_many(long count, long pause_ms)
{
	for (long number = 0; number < count; number++) {
		read_one();
		if (pause_ms)
			usleep(pause_ms * 1000);
	}
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 1, pause_ms = argc > 2 ? atol(argv[2]) : 0;
	pid_t child;

	source = open("/dev/zero", O_RDONLY);
	if (source < 0)
		return 1;
	child = fork();
	if (child < 0)
		return 1;
	read_many(count, pause_ms);
	if (child == 0)
		return 0;
	return waitpid(child, NULL, 0) == child ? 7 : 1;
}
