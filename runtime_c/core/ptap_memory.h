/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How the walk reads the stack: through one function that its user gives. */
#ifndef PTAP_MEMORY_H
#define PTAP_MEMORY_H

#include "ptap_table.h"

/* What reading a word came to. */
enum ptap_read {
	PTAP_READ_DONE = 0,
	PTAP_READ_NOT_CAPTURED = 1,
	PTAP_READ_BEYOND_CUT = 2, /* the capture's size limit ended the memory before it */
};

/* Memory that can be read where it lies, and what was read of it; `read` has what it holds elsewhere. */
struct ptap_near {
	uint64_t start; /* a multiple of 8 */
	uint64_t size; /* bytes, 0 for none */
	uint64_t except; /* a word of this value is left to `read` */
	uint64_t low, high; /* numbers of the words that may be marked: [low, high) */
	uint64_t *marked; /* bit n: word n was read */
};

struct ptap_memory {
	/* Put the little-endian unsigned integer of `size` bytes (1 to 8) at `address` into `value`. */
	enum ptap_read (*read)(void *context, uint64_t address, uint32_t size, uint64_t *value);
	void *context;
	struct ptap_near *near; /* or null */
};

/* As memory->read of 8 bytes: the most frequent ones without a call. */
static inline enum ptap_read ptap_read_word(const struct ptap_memory *memory, uint64_t address, uint64_t *value)
{
	struct ptap_near *near = memory->near;
	uint64_t from, number;

	if (!near)
		return memory->read(memory->context, address, 8, value);
	from = address - near->start;
	number = from / 8;
	if (from >= near->size || address % 8)
		return memory->read(memory->context, address, 8, value);
	*value = *(const volatile uint64_t *)(uintptr_t)address;
	if (*value == near->except)
		return memory->read(memory->context, address, 8, value);
	near->marked[number / 64] |= (uint64_t)1 << number % 64;
	if (number < near->low)
		near->low = number;
	if (number >= near->high)
		near->high = number + 1;
	return PTAP_READ_DONE;
}

#endif
