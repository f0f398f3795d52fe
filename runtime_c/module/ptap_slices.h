/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a walk has read of the kernel's stacks, and how it becomes the slices of a record. */
#ifndef PTAP_SLICES_H
#define PTAP_SLICES_H

#include <linux/thread_info.h>
#include <linux/types.h>

#include "ptap_memory.h"
#include "ptap_pack.h"

#define PTAP_MAXIMUM_RUNS 256

struct ptap_stack_words {
	struct ptap_near near; /* what is read at its place: of the stack that the walk is on */
	struct ptap_noted noted; /* its `runs` are these */
	u64 task_stack;
	u64 first_stack; /* where the walk has begun, aligned like a stack */
	u32 replaced; /* a return address stood elsewhere, so the words are not what lies on the stack */
	u32 run_words; /* in all runs */
	struct ptap_run runs[PTAP_MAXIMUM_RUNS];
};

/* Begin with nothing read, where the stack pointer is `pointer`, on the task stack at `stack` or on another one. */
void ptap_slices_begin(struct ptap_stack_words *words, u64 stack, u64 pointer, u64 trampoline);

/* The word at `address`, a multiple of 8, was read without being near. */
static inline void ptap_slices_note(struct ptap_stack_words *words, u64 address)
{
	ptap_note_word(&words->noted, address);
}

/* Nothing of what was read is wanted. */
void ptap_slices_forget(struct ptap_stack_words *words);

/* Count the words of all runs, in `run_words`. */
void ptap_slices_gather(struct ptap_stack_words *words);

/* Write all runs; how many of their words could not be read. */
u32 ptap_slices_write(struct ptap_stack_words *words, struct ptap_writer *writer);

#endif
