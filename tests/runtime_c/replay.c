// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Walks stacks that a file describes, for a build with sanitizers: what is allocated is exactly what may be read.
 *
 *   replay ROOM <STACKS >WALKS
 *
 * Of each stack: the sizes of arena, mappings, content and slices in bytes, those arrays, and the state. Of each walk:
 * reason, frames found, state, and the two frame arrays. All are 64-bit words but the bytes of arena and content.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../runtime_c/host/ptap_host.h"

static void *read_array(uint64_t size)
{
	void *array = malloc(size ? size : 1);

	if (!array || (size && fread(array, size, 1, stdin) != 1))
		exit(1);
	return array;
}

static void write_array(const void *array, size_t size)
{
	if (size && fwrite(array, size, 1, stdout) != 1)
		exit(1);
}

int main(int argc, char **argv)
{
	uint64_t room = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
	int64_t *frames = calloc(room + 1, PTAP_HOST_FRAME_WIDTH * sizeof(*frames));
	int64_t *registers = calloc(room + 1, PTAP_REGISTER_COUNT * sizeof(*registers));
	uint64_t sizes[4];

	while (fread(sizes, sizeof(sizes), 1, stdin) == 1) {
		void *arrays[4];
		int64_t state[PTAP_HOST_STATE_WIDTH], result[2];
		uint64_t count = 0;

		for (int index = 0; index < 4; index++)
			arrays[index] = read_array(sizes[index]);
		if (fread(state, sizeof(state), 1, stdin) != 1)
			return 1;
		struct ptap_host_input input = { arrays[0], sizes[0], arrays[1], sizes[1] / 32,
						 arrays[2], sizes[2], arrays[3], sizes[3] / 32, 0, 0 };

		result[0] = ptap_host_walk(&input, state, frames, registers, room, &count);
		result[1] = (int64_t)count;
		write_array(result, sizeof(result));
		write_array(state, sizeof(state));
		write_array(frames, room * PTAP_HOST_FRAME_WIDTH * sizeof(*frames));
		write_array(registers, room * PTAP_REGISTER_COUNT * sizeof(*registers));
		for (int index = 0; index < 4; index++)
			free(arrays[index]);
	}
	free(frames);
	free(registers);
	return 0;
}
