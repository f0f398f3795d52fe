/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Ticks of the time stamp counter that a read of /dev/zero takes: under -icount, instructions. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <x86intrin.h>

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 1000, file = open("/dev/zero", O_RDONLY);
	unsigned long long begin;
	char buffer[8];

	if (file < 0)
		return 1;
	for (int turn = 0; turn < 100; turn++) {
		if (read(file, buffer, sizeof(buffer)) < 0)
			return 1;
	}
	begin = __rdtsc();
	for (int turn = 0; turn < count; turn++) {
		if (read(file, buffer, sizeof(buffer)) < 0)
			return 1;
	}
	printf("%.1f\n", (double)(__rdtsc() - begin) / count);
	return 0;
}
