/*
 * Reads in code that it comes to one after the other: its own, a child's, a library's that it opens, and another
 * program's. `later LIBRARY PROGRAM`, or without: only its own.
 *
 * In each it goes on until there is a file /tmp/settled-NAME; then come the reads that count, by the name of the thread.
 */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fcntl.h>

#define COUNTED 3

static int source;

__attribute__((noipa)) char read_one(int descriptor)
{
	char byte = 1;

	if (read(descriptor, &byte, 1) != 1)
		abort();
	return byte;
}

__attribute__((noipa)) char settled_read(char (*reading)(int), long number)
{
	return reading(source) + (char)number;
}

__attribute__((noipa)) static int settle(const char *name, char (*reading)(int))
{
	char path[64], counted[16];
	int sum = 0;

	snprintf(path, sizeof(path), "/tmp/settled-%s", name);
	snprintf(counted, sizeof(counted), "%s+", name);
	prctl(PR_SET_NAME, name);
	while (access(path, F_OK)) {
		sum += reading(source);
		usleep(50000);
	}
	prctl(PR_SET_NAME, counted);
	for (long number = 1; number <= COUNTED; number++)
		sum += settled_read(reading, number);
	prctl(PR_SET_NAME, "moving");
	return sum;
}

static int settle_child(void)
{
	pid_t child = fork();

	if (child == 0)
		_exit(settle("child", read_one));
	return child < 0 || waitpid(child, NULL, 0) != child;
}

int main(int argc, char **argv)
{
	void *library;
	char (*reading)(int);

	source = open("/dev/zero", O_RDONLY);
	if (source < 0)
		return 1;
	if (argc < 3)
		return settle("next", read_one);
	settle("own", read_one);
	if (settle_child())
		return 2;
	library = dlopen(argv[1], RTLD_NOW);
	reading = library ? (char (*)(int))dlsym(library, "library_read") : NULL;
	if (!reading)
		return 3;
	settle("library", reading);
	close(source);
	execl(argv[2], argv[2], (char *)NULL);
	return 4;
}
