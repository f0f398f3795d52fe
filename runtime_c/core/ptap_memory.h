/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How the walk reads the stack: through one function that its user gives, and without it where it may. */
#ifndef PTAP_MEMORY_H
#define PTAP_MEMORY_H

#include "ptap_noted.h"
#include "ptap_table.h"

/* What reading a word came to. */
enum ptap_read {
	PTAP_READ_DONE = 0,
	PTAP_READ_NOT_CAPTURED = 1,
	PTAP_READ_BEYOND_CUT = 2, /* the capture's size limit ended the memory before it */
};

/*
 * Memory that is read without a call: words at their place, or a copy of them. `read` may move it on to where it has
 * just read, but not while a value is used that was read from it.
 */
struct ptap_near {
	uint64_t start; /* a multiple of 8 */
	uint64_t size; /* bytes, 0 for none */
	const uint8_t *content; /* where the word at `start` lies, aligned; null only with no size */
	uint64_t except; /* a word of this value is left to `read` */
	struct ptap_noted *noted; /* what was read of it, or null; `read` notes by itself */
};

struct ptap_memory {
	/* Put the little-endian unsigned integer of `size` bytes (1 to 8) at `address` into `value`. */
	enum ptap_read (*read)(void *context, uint64_t address, uint32_t size, uint64_t *value);
	void *context;
	struct ptap_near *near; /* or null */
	/* Make near what holds the `span` bytes from `low` on; 0 where that cannot be. Or null: it never can. */
	int (*reach)(void *context, uint64_t low, uint32_t span);
};

/* As memory->read of 8 bytes: the most frequent ones without a call. */
static inline enum ptap_read ptap_read_word(const struct ptap_memory *memory, uint64_t address, uint64_t *value)
{
	const struct ptap_near *near = memory->near;
	uint64_t from;

	if (!near)
		return memory->read(memory->context, address, 8, value);
	from = address - near->start;
	if (from >= near->size || near->size - from < 8 || address % 8)
		return memory->read(memory->context, address, 8, value);
	*value = *(const volatile uint64_t *)(const volatile void *)(near->content + from);
	if (*value == near->except)
		return memory->read(memory->context, address, 8, value);
	if (near->noted)
		ptap_note_word(near->noted, address);
	return PTAP_READ_DONE;
}

#endif
