/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The walk of the current task's user stack at a hit, and the part of the record that tells of it. */
#ifndef PTAP_USER_WALK_H
#define PTAP_USER_WALK_H

#include <linux/ptrace.h>

#include "ptap_pack.h"
#include "ptap_record.h"
#include "ptap_user_memory.h"
#include "ptap_walk.h"

/* What a CPU works with. */
struct ptap_user_walk {
	struct ptap_cursor cursor;
	struct ptap_scratch scratch;
	struct ptap_remembered remembered;
	struct ptap_user_memory memory;
	struct ptap_frame frames[PTAP_MAXIMUM_USER_FRAMES];
	u64 registers[PTAP_REGISTER_COUNT]; /* where the walk began */
	u32 known;
	u32 told_registers; /* those of `known` that are not the hit's own */
	u64 generation;
	int stop;
	u64 stop_detail;
	u32 frame_count;
	u64 flat_address;
	u32 flat_bytes; /* at the most, from flat_address on, where the flags say so */
	u32 flags; /* enum ptap_hit_flag, for the hit */
};

/*
 * Walk from where user space was left; `regs` are those of the probed place, user space's or the kernel's. `flags` say
 * whether there is a user stack.
 */
void ptap_user_walk(struct ptap_user_walk *walk, const struct pt_regs *regs);

/* How many words ptap_user_write packs, but the addresses of runs. */
u32 ptap_user_words(const struct ptap_user_walk *walk);

/* Write what the record has of the user's stack; `gathered` has room for PTAP_GATHERED_WORDS. */
void ptap_user_write(const struct ptap_user_walk *walk, struct ptap_writer *writer, u64 *gathered);

/* Write the flat copy, a multiple of 8, behind which the result points. */
void *ptap_user_write_flat(const struct ptap_user_walk *walk, void *to);

#endif
