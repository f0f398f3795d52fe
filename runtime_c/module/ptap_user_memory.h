/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reading the user's memory from a probe, with no way to fault or to sleep: what is not in memory is not read.
 *
 * It is copied in stretches that grow while a walk goes upwards, and the record is written of those copies: another
 * thread may change the memory between two looks. Where a return probe has put its own address, the copy has the real
 * one.
 */
#ifndef PTAP_USER_MEMORY_H
#define PTAP_USER_MEMORY_H

#include <linux/types.h>

#include "ptap_memory.h"

#define PTAP_USER_BUFFER_BYTES (64 << 10)
#define PTAP_USER_STRETCHES 64
#define PTAP_USER_RUNS 512

/* A piece of memory that was copied. */
struct ptap_user_stretch {
	u64 start;
	u32 size;
	u32 place; /* in the buffer */
};

struct ptap_user_memory {
	struct ptap_near near; /* the stretch that was read last */
	struct ptap_noted noted;
	struct ptap_run runs[PTAP_USER_RUNS];
	struct ptap_user_stretch stretches[PTAP_USER_STRETCHES];
	u32 stretch_count;
	u32 used; /* of the buffer; the last stretch ends there */
	u8 buffer[PTAP_USER_BUFFER_BYTES] __aligned(8);
};

/* Begin with nothing read, near `pointer`. */
void ptap_user_memory_begin(struct ptap_user_memory *memory, u64 pointer);

/* The `read` of a walk's ptap_memory; `context` is a struct ptap_user_memory, whose `near` is the walk's, too. */
enum ptap_read ptap_user_read(void *context, uint64_t address, uint32_t size, uint64_t *value);

/* Have the words of [start, end) in the record, those that can be read. */
void ptap_user_memory_mark(struct ptap_user_memory *memory, u64 start, u64 end);

/* The bytes that the slices of what was read take in a record. */
u32 ptap_user_memory_size(const struct ptap_user_memory *memory);

/* Write the slices to `to`; the result points behind them. */
void *ptap_user_memory_write(const struct ptap_user_memory *memory, void *to);

/* Write a slice of up to `size` bytes (a multiple of 8) of memory as it is, from `address` on. */
void *ptap_user_memory_copy(u64 address, u32 size, void *to);

#endif
