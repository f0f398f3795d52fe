/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reading the user's memory from a probe, with no way to fault or to sleep: what is not in memory is not read.
 *
 * It is copied a window at a time, and the record is written of those copies: another thread may change the memory
 * between two looks. Where a return probe has put its own address, the real one is in the copy.
 */
#ifndef PTAP_USER_MEMORY_H
#define PTAP_USER_MEMORY_H

#include <linux/types.h>

#include "ptap_memory.h"
#include "ptap_pack.h"

#define PTAP_USER_WINDOW_WORDS 128
#define PTAP_USER_WINDOWS 64
#define PTAP_USER_RUNS 512

/* A piece of memory. */
struct ptap_user_window {
	u64 start; /* a multiple of 8 */
	u64 size; /* bytes that could be copied: all, or up to the end of a page */
	unsigned long marked[PTAP_USER_WINDOW_WORDS / BITS_PER_LONG]; /* bit n: word n is wanted */
	u64 words[PTAP_USER_WINDOW_WORDS];
};

/* Marked words side by side, with short gaps. */
struct ptap_user_run {
	u64 address;
	const u64 *words;
	u32 count;
};

struct ptap_user_memory {
	struct ptap_near near; /* the window that was read last */
	struct ptap_noted noted; /* what the walk has read; its `runs` are `read` */
	struct ptap_user_window windows[PTAP_USER_WINDOWS];
	u32 window_count;
	u32 latest; /* the window that was read last */
	u32 left_out; /* words for which there was no room */
	u32 has_marks; /* more is wanted than was read */
	struct ptap_run read[PTAP_USER_RUNS];
	struct ptap_user_run runs[PTAP_USER_RUNS];
	u32 run_count;
	u32 run_words; /* in all runs */
};

/* Begin with nothing read. */
void ptap_user_memory_begin(struct ptap_user_memory *memory);

/* The ptap_memory of a walk; `context` is a struct ptap_user_memory. */
enum ptap_read ptap_user_read(void *context, uint64_t address, uint32_t size, uint64_t *value);

/* Its `reach`. */
int ptap_user_reach(void *context, uint64_t low, uint32_t span);

/* Mark the words of [start, end) that can be read. */
void ptap_user_memory_mark(struct ptap_user_memory *memory, u64 start, u64 end);

/* Make runs of what was read and marked. */
void ptap_user_memory_gather(struct ptap_user_memory *memory);

/* Write all runs. */
void ptap_user_memory_write(const struct ptap_user_memory *memory, struct ptap_writer *writer);

/* Write a struct ptap_flat of up to `size` bytes (a multiple of 8) of memory as it is, from `address` on; behind it. */
void *ptap_user_memory_copy(u64 address, u32 size, void *to);

#endif
