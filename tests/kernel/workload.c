/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* System calls of many kinds, a few of each: what the probes of the kernel tests are hit by. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char buffer[4096];

static void check(long result)
{
	if (result < 0) {
		perror("workload");
		exit(1);
	}
}

static void read_whole(const char *path)
{
	int file = open(path, O_RDONLY);
	long size;

	check(file);
	do {
		size = read(file, buffer, sizeof(buffer));
		check(size);
	} while (size);
	close(file);
}

static void round_of_calls(void)
{
	struct timespec moment = { .tv_nsec = 1000000 };
	int pipes[2], sockets[2];
	char *memory;
	pid_t child;

	read_whole("/proc/self/maps");
	check(pipe(pipes));
	check(write(pipes[1], buffer, 100));
	check(poll(&(struct pollfd){ .fd = pipes[0], .events = POLLIN }, 1, 1));
	check(read(pipes[0], buffer, sizeof(buffer)));
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	check(write(sockets[0], buffer, 100));
	check(read(sockets[1], buffer, sizeof(buffer)));
	for (int index = 0; index < 2; index++) {
		close(pipes[index]);
		close(sockets[index]);
	}
	memory = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int page = 0; page < 16; page++)
		memory[page << 12] = 1;
	munmap(memory, 1 << 16);
	child = fork();
	check(child);
	if (!child)
		_exit(0);
	check(waitpid(child, NULL, 0));
	nanosleep(&moment, NULL);
}

/* workload ROUNDS [READS [PREADS]]: so many rounds of everything, then so many reads of /dev/zero, by two calls. */
int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1, reads = argc > 2 ? atoi(argv[2]) : 0;
	int preads = argc > 3 ? atoi(argv[3]) : 0;
	int zeroes = open("/dev/zero", O_RDONLY);

	read_whole("/proc/cpuinfo");
	while (rounds-- > 0)
		round_of_calls();
	check(zeroes);
	while (reads-- > 0)
		check(read(zeroes, buffer, 8));
	while (preads-- > 0)
		check(pread(zeroes, buffer, 8, 0));
	return 0;
}
