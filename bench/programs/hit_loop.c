// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Calls a probed function COUNT times, below DEPTH frames, and prints how long a call took.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct job {
	const char *name;
	long number;
};

__attribute__((noipa)) void probed(const struct job *job, long round)
{
	__asm__ volatile("" ::"r"(job), "r"(round) : "memory");
}

__attribute__((noipa)) static double run(long count)
{
	struct job job = {"work", 7};
	struct timespec begin, end;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (long round = 0; round < count; round++)
		probed(&job, round);
	clock_gettime(CLOCK_MONOTONIC, &end);
	return (end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec);
}

__attribute__((noipa)) static double deeper(long depth, long count)
{
	double spent = depth > 0 ? deeper(depth - 1, count) : run(count);

	__asm__ volatile("" ::: "memory");
	return spent;
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 1000;
	long depth = argc > 2 ? atol(argv[2]) : 6;

	printf("%.1f\n", deeper(depth, count) / count);
	return 0;
}
