/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The core for user space: walks over the flat arrays that unwind/walk.py works on, for tests and fuzzing. */
#ifndef PTAP_HOST_H
#define PTAP_HOST_H

#include "../core/ptap_walk.h"

/* Widths of the arrays' rows in int64 values, as in unwind/walk.py and unwind/memory.py. */
enum {
	PTAP_HOST_STATE_WIDTH = 41,
	PTAP_HOST_MAPPING_WIDTH = 4,
	PTAP_HOST_FRAME_WIDTH = 6,
	PTAP_HOST_SLICE_WIDTH = 4,
	PTAP_HOST_MAPPINGS_MAXIMUM = 512,
	PTAP_HOST_FRAMES_MAXIMUM = 4096,
};

struct ptap_host_input {
	const uint8_t *arena; /* tables, 8-byte aligned */
	uint64_t arena_size;
	const int64_t *mappings;
	uint64_t mapping_count;
	const uint8_t *content;
	uint64_t content_size;
	const int64_t *slices;
	uint64_t slice_count;
	uint64_t generation; /* of the mappings, as struct ptap_walk has it; 0: nothing is remembered of them behind the walk */
	uint64_t only_needed; /* recover what walks need, and give no registers of the frames */
};

/*
 * Walk from `state`, which is left as unwind.walk.walk leaves it, into `frames` and `frame_registers`, which have `room`
 * rows. Returns the stop reason and the number of frames in `count`; -1 for arrays that are larger than the maxima or
 * tables that lie outside of the arena.
 */
int ptap_host_walk(const struct ptap_host_input *input, int64_t *state, int64_t *frames, int64_t *frame_registers,
		   uint64_t room, uint64_t *count);

/*
 * Run an expression of the pool on the registers, known mask and memory of `state` and `input`; the result of
 * ptap_evaluate. `initial` may be a null pointer.
 */
int ptap_host_evaluate(const struct ptap_host_input *input, const int64_t *state, const uint8_t *code, uint32_t length,
		       const int64_t *initial, int64_t *value);

#endif
