// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The user's stack. With preemption off, in any context; nothing is allocated, no lock taken.
 *
 * Where a table is missing, or what was told of the process is no longer true, the walk ends, and the stack from there
 * on goes into the record as it is, as far as a limit: the walk afterwards, which has every file, goes on there.
 */

#include <linux/bitops.h>
#include <linux/kprobes.h>
#include <linux/mm_types.h>
#include <linux/sched.h>
#include <linux/sched/task_stack.h>
#include <linux/string.h>

#include "ptap_session.h"
#include "ptap_space.h"
#include "ptap_user_walk.h"
#include "ptap_x86_64.h"

/* How much of each end of a frame goes into the record where frames are asked for: variables and arguments lie there. */
#define END_BYTES 128

/* The registers with which the current task left user space, or null where it never was there. */
static nokprobe_inline const struct pt_regs *user_registers(const struct pt_regs *regs)
{
	if (ptap_are_users(regs))
		return regs;
	/* In the middle of exec the registers are the old program's, and the memory the new one's. */
	if (!current->mm || current->flags & PF_KTHREAD || current->in_execve)
		return NULL;
	regs = task_pt_regs(current);
	return ptap_are_users(regs) ? regs : NULL;
}

/* The space to go by, or null: nothing was told, or it is not true any more. */
static nokprobe_inline const struct ptap_space *trusted_space(struct ptap_user_walk *walk)
{
	const struct ptap_space *space = ptap_space_of(current->mm);

	if (space && ptap_space_is_current(space))
		return space;
	walk->flags |= PTAP_HIT_FLAG_USER_UNTOLD;
	return NULL;
}

static nokprobe_inline void walk_frames(struct ptap_user_walk *walk, const struct ptap_space *space)
{
	const struct ptap_memory memory = {
		.read = ptap_user_read,
		.context = &walk->memory,
		.near = &walk->memory.near,
		.reach = ptap_user_reach,
	};
	struct ptap_walk frames = {
		.mappings = space ? space->mappings : NULL,
		.mapping_count = space ? space->mapping_count : 0,
		.memory = &memory,
		.frames = walk->frames,
		.room = PTAP_MAXIMUM_USER_FRAMES,
		.scratch = &walk->scratch,
		.without_registers = 1,
		.generation = space ? space->number : 0,
		.renewed = ptap_session_renewed(),
		/* Frames are for arguments, which may lie in registers that no walk needs. */
		.unwanted = space && ptap_session.slices != PTAP_SLICES_FRAMES ? ~space->needed : 0,
	};

	walk->scratch.remembered = &walk->remembered;
	walk->generation = space ? space->generation : 0;
	walk->stop = ptap_walk(&frames, &walk->cursor);
	walk->stop_detail = walk->cursor.detail;
	walk->frame_count = frames.count;
}

/* Whether more files, or more room, would have let the walk go on. */
static nokprobe_inline int can_be_finished(int stop)
{
	return stop == PTAP_STOP_REASON_NO_MAPPING || stop == PTAP_STOP_REASON_NO_TABLE ||
	       stop == PTAP_STOP_REASON_NO_ROW || stop == PTAP_STOP_REASON_OVERFLOW ||
	       stop == PTAP_STOP_REASON_TOO_DEEP;
}

/* Mark both ends of every frame that was found: from the stack pointer, or the CFA of the frame before, to its CFA. */
static nokprobe_inline void mark_ends(struct ptap_user_walk *walk)
{
	u64 begin = walk->registers[PTAP_STACK_POINTER];
	u32 index;

	for (index = 0; index < walk->frame_count; index++) {
		u64 end = walk->frames[index].cfa;

		if (!(walk->frames[index].flags & PTAP_FRAME_HAS_CFA))
			break;
		if (end > begin) {
			ptap_user_memory_mark(&walk->memory, begin, min(begin + END_BYTES, end));
			ptap_user_memory_mark(&walk->memory, max(begin, end - END_BYTES), end);
		}
		begin = end;
	}
}

static void gather(struct ptap_user_walk *walk)
{
	if (ptap_session.slices != PTAP_SLICES_NONE)
		ptap_user_memory_gather(&walk->memory);
	if (walk->memory.left_out)
		walk->flags |= PTAP_HIT_FLAG_WORDS_LEFT_OUT;
}
NOKPROBE_SYMBOL(gather);

void ptap_user_walk(struct ptap_user_walk *walk, const struct pt_regs *regs)
{
	const struct pt_regs *user = user_registers(regs);
	const struct ptap_space *space;

	walk->flags = 0;
	if (!user)
		return;
	walk->flags = PTAP_HIT_FLAG_USER_STACK;
	ptap_user_memory_begin(&walk->memory);
	ptap_cursor_at(&walk->cursor, user, user->ip);
	walk->cursor.known = ptap_user_known(user);
	memcpy(walk->registers, walk->cursor.registers, sizeof(walk->registers));
	walk->known = walk->cursor.known;
	/* Those of the probed place are in the hit. */
	walk->told_registers = user == regs ? 0 : walk->known;
	if (!walk->known) {
		walk->generation = 0;
		walk->stop = PTAP_STOP_REASON_NO_REGISTERS;
		walk->stop_detail = 0;
		walk->frame_count = 0;
		return;
	}
	/* Asked for in any case: whoever follows the processes hears from it. */
	space = trusted_space(walk);
	if (ptap_are_narrow(user)) {
		/* Tables here are of 64-bit code. */
		walk->flags |= PTAP_HIT_FLAG_USER_NARROW;
		walk_frames(walk, NULL);
		walk->generation = space ? space->generation : 0;
	} else {
		walk_frames(walk, ptap_session.slices == PTAP_SLICES_FLAT ? NULL : space);
	}
	if (can_be_finished(walk->stop) && ptap_session.slices != PTAP_SLICES_NONE && ptap_session.flat_bytes) {
		walk->flags |= PTAP_HIT_FLAG_USER_FLAT;
		walk->flat_address = walk->cursor.registers[PTAP_STACK_POINTER] & ~7ull;
		walk->flat_bytes = ptap_session.flat_bytes;
	}
	if (ptap_session.slices == PTAP_SLICES_FRAMES)
		mark_ends(walk);
	gather(walk);
}
NOKPROBE_SYMBOL(ptap_user_walk);

/* Of every user stack: where the walk ended, the generation, the stack's start. */
#define USER_WORDS 3

u32 ptap_user_words(const struct ptap_user_walk *walk)
{
	return USER_WORDS + hweight32(walk->told_registers) + walk->frame_count + walk->memory.run_words;
}
NOKPROBE_SYMBOL(ptap_user_words);

void ptap_user_write(const struct ptap_user_walk *walk, struct ptap_writer *writer, u64 *gathered)
{
	u64 *to = gathered;

	*to++ = walk->stop_detail;
	*to++ = walk->generation;
	*to++ = current->mm ? current->mm->start_stack : 0;
	to = ptap_gather_registers(to, walk->registers, walk->told_registers);
	to = ptap_gather_pcs(to, walk->frames, walk->frame_count);
	ptap_pack_words(writer, gathered, to - gathered);
	ptap_runs_begin(writer, walk->registers[PTAP_STACK_POINTER]);
	ptap_user_memory_write(&walk->memory, writer);
}
NOKPROBE_SYMBOL(ptap_user_write);

void *ptap_user_write_flat(const struct ptap_user_walk *walk, void *to)
{
	return ptap_user_memory_copy(walk->flat_address, walk->flat_bytes, to);
}
NOKPROBE_SYMBOL(ptap_user_write_flat);
