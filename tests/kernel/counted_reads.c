/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reads whose size is their number: a record of one says which it is, and what is missing is seen.
 *
 *   counted_reads CPU COUNT
 *
 * Reads 1, 2, ... COUNT bytes of /dev/null on one processor, each by one system call, and tells its process, how many
 * calls it has made and how many nanoseconds they have taken.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static char buffer[4096];

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return 1000000000ll * time.tv_sec + time.tv_nsec;
}

int main(int argc, char **argv)
{
	long count = argc > 2 ? atol(argv[2]) : 0, calls = 0;
	int file = open("/dev/null", O_RDONLY);
	cpu_set_t processor;
	long long begin;

	CPU_ZERO(&processor);
	CPU_SET(argc > 1 ? atoi(argv[1]) : 0, &processor);
	if (file < 0 || sched_setaffinity(0, sizeof(processor), &processor)) {
		perror("counted_reads");
		return 1;
	}
	begin = now();
	while (calls < count && pread(file, buffer, (size_t)calls + 1, 0) == 0)
		calls++;
	printf("%d %ld %lld\n", getpid(), calls, now() - begin);
	return calls != count;
}
