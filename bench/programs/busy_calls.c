// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A job of a fixed amount of work in nested calls, which says what it cost:
 * its own run time, its own CPU time, and the CPU time that its parent, the profiler, took meanwhile. Seconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define DEPTH 40

static volatile unsigned long sum;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static double own_cpu(void)
{
	struct rusage use;

	getrusage(RUSAGE_SELF, &use);
	return use.ru_utime.tv_sec + use.ru_stime.tv_sec + (use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

/* Of all the parent's threads, by the scheduler's clock where it tells, else in ticks. */
static double parent_cpu(void)
{
	unsigned long user, system;
	char path[64];
	FILE *file;
	int found;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)getppid());
	file = fopen(path, "r");
	if (!file)
		return 0;
	found = fscanf(file, "%*d %*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
	fclose(file);
	return found == 2 ? (double)(user + system) / sysconf(_SC_CLK_TCK) : 0;
}

static __attribute__((noinline)) void work(int depth, unsigned long rounds)
{
	volatile char frame[64];

	frame[0] = (char)depth;
	if (depth < DEPTH) {
		work(depth + 1, rounds);
	} else {
		for (unsigned long round = 0; round < rounds; round++)
			sum += round ^ (sum << 1);
	}
	sum += frame[0];
}

int main(int count, char **arguments)
{
	unsigned long calls = count > 1 ? strtoul(arguments[1], NULL, 10) : 1000;
	double parent = parent_cpu(), cpu = own_cpu(), began = now();

	for (unsigned long call = 0; call < calls; call++)
		work(0, 200000);
	fprintf(stderr, "busy: %.6f %.6f %.6f\n", now() - began, own_cpu() - cpu, parent_cpu() - parent);
	return 0;
}
