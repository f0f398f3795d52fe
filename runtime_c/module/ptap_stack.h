/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reading the kernel's stacks from a probe, with no way to fault. */
#ifndef PTAP_STACK_H
#define PTAP_STACK_H

#include "ptap_memory.h"

struct ptap_stack_words;

/*
 * The word at `address`, with the real return address where a return probe has put its own in its place; 0 where it
 * cannot be read, which `readable` tells.
 */
u64 ptap_stack_word(struct ptap_stack_words *words, u64 address, int *readable);

/*
 * Make near what is sure to be there around `address`, of which a word was read or which is the stack pointer: the
 * task's stack, or the page of the stack that the walk began on. All else is as it was.
 */
void ptap_stack_move(struct ptap_stack_words *words, u64 address);

/* The ptap_memory of a walk; `context` is a struct ptap_stack_words, which notes what was read. */
enum ptap_read ptap_stack_read(void *context, uint64_t address, uint32_t size, uint64_t *value);

/* Its `reach`: of the task's stack, or of the one that the walk began on. */
int ptap_stack_reach(void *context, uint64_t low, uint32_t span);

#endif
