/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which words of the stack a walk has read, and how they become the slices of a record. */
#ifndef PTAP_SLICES_H
#define PTAP_SLICES_H

#include <linux/thread_info.h>
#include <linux/types.h>

#include "ptap_memory.h"

#define PTAP_WINDOW_WORDS (THREAD_SIZE / 8)
#define PTAP_MAXIMUM_WINDOWS 4 /* a task's stack, an interrupt's, an exception's, and one more */
#define PTAP_MAXIMUM_RUNS 256

/* Words side by side. */
struct ptap_run {
	u64 address;
	u32 count;
};

/* A piece of memory as large as a stack and aligned like one, in which words were read. */
struct ptap_window {
	struct ptap_near near; /* its `marked` is this one's */
	unsigned long marked[PTAP_WINDOW_WORDS / BITS_PER_LONG];
};

struct ptap_stack_words {
	struct ptap_window windows[PTAP_MAXIMUM_WINDOWS]; /* the first one is the current task's stack */
	u32 window_count;
	u32 left_out; /* words for which there was no room */
	struct ptap_run runs[PTAP_MAXIMUM_RUNS];
	u32 run_count;
	u32 run_words; /* in all runs */
};

static inline int ptap_slices_on_stack(const struct ptap_stack_words *words, u64 address)
{
	return address - words->windows[0].near.start < THREAD_SIZE;
}

/* Begin with nothing read of the stack that begins at `stack`. */
void ptap_slices_begin(struct ptap_stack_words *words, u64 stack);

/* The word at `address`, a multiple of 8, was read. */
void ptap_slices_note(struct ptap_stack_words *words, u64 address);

/* Make runs of what was read; the bytes that their slices take in a record. */
u32 ptap_slices_gather(struct ptap_stack_words *words);

/* Write the slices of all runs to `to`; the bytes that could be read. */
u32 ptap_slices_write(const struct ptap_stack_words *words, void *to);

#endif
