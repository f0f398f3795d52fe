/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ticks of the time stamp counter that a read of /dev/zero takes, so many calls deep: under -icount, instructions.
 *
 * timed_reads [COUNT [DEPTH]]
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <x86intrin.h>

static int count = 1000, file;

static int by_size(const void *left, const void *right)
{
	unsigned long long a = *(const unsigned long long *)left, b = *(const unsigned long long *)right;

	return (a > b) - (a < b);
}

/* The median: on one processor, who reads the records takes its time from some of the reads. */
static double measure(void)
{
	unsigned long long *taken = calloc(count, sizeof(*taken));
	char buffer[8];

	if (!taken)
		exit(1);
	for (int turn = -100; turn < count; turn++) {
		unsigned long long begin = __rdtsc();

		if (read(file, buffer, sizeof(buffer)) < 0)
			exit(1);
		if (turn >= 0)
			taken[turn] = __rdtsc() - begin;
	}
	qsort(taken, count, sizeof(*taken), by_size);
	return (double)taken[count / 2];
}

/* One frame a level, with room for variables and registers to be saved. */
static __attribute__((noipa)) double descend(int depth)
{
	volatile double room[8] = { depth };
	double taken = depth > 0 ? descend(depth - 1) : measure();

	return taken + room[0] - depth;
}

int main(int argc, char **argv)
{
	count = argc > 1 ? atoi(argv[1]) : count;
	file = open("/dev/zero", O_RDONLY);
	if (file < 0)
		return 1;
	/* What traces us has to see our mappings first. */
	if (argc > 2)
		sleep(3);
	printf("%.1f\n", descend(argc > 2 ? atoi(argv[2]) : 0));
	return 0;
}
