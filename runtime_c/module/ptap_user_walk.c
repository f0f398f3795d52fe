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
		.generation = space ? ptap_session_generation(space->number) : 0,
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

static u32 part_size(struct ptap_user_walk *walk)
{
	u32 size = sizeof(struct ptap_user_stack) + 8 * hweight32(walk->told_registers) + 8 * walk->frame_count;

	if (ptap_session.slices != PTAP_SLICES_NONE)
		size += ptap_user_memory_gather(&walk->memory);
	if (walk->flat_bytes)
		size += sizeof(struct ptap_slice) + walk->flat_bytes;
	if (walk->memory.left_out)
		walk->flags |= PTAP_HIT_FLAG_WORDS_LEFT_OUT;
	return size;
}
NOKPROBE_SYMBOL(part_size);

u32 ptap_user_walk(struct ptap_user_walk *walk, const struct pt_regs *regs)
{
	const struct pt_regs *user = user_registers(regs);
	const struct ptap_space *space;

	walk->flags = 0;
	if (!user)
		return 0;
	walk->flags = PTAP_HIT_FLAG_USER_STACK;
	walk->flat_bytes = 0;
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
		return part_size(walk);
	}
	/* Asked for in any case: whoever follows the processes hears from it. */
	space = trusted_space(walk);
	walk_frames(walk, ptap_session.slices == PTAP_SLICES_FLAT ? NULL : space);
	if (can_be_finished(walk->stop) && ptap_session.slices != PTAP_SLICES_NONE) {
		walk->flags |= PTAP_HIT_FLAG_USER_FLAT;
		walk->flat_address = walk->cursor.registers[PTAP_STACK_POINTER] & ~7ull;
		walk->flat_bytes = ptap_session.flat_bytes;
	}
	if (ptap_session.slices == PTAP_SLICES_FRAMES)
		mark_ends(walk);
	return part_size(walk);
}
NOKPROBE_SYMBOL(ptap_user_walk);

void *ptap_user_write(const struct ptap_user_walk *walk, void *to)
{
	struct ptap_user_stack *part = to;
	u64 *words = (u64 *)(part + 1);
	u32 index;

	*part = (struct ptap_user_stack){
		.stop = walk->stop,
		.stop_detail = walk->stop_detail,
		.generation = walk->generation,
		.start_stack = current->mm ? current->mm->start_stack : 0,
		.known = walk->known,
		.frame_count = walk->frame_count,
		.slice_count = walk->memory.run_count + (walk->flat_bytes ? 1 : 0),
	};
	for (index = 0; index < PTAP_REGISTER_COUNT; index++) {
		if (walk->told_registers >> index & 1)
			*words++ = walk->registers[index];
	}
	for (index = 0; index < walk->frame_count; index++)
		*words++ = walk->frames[index].pc;
	to = ptap_user_memory_write(&walk->memory, words);
	if (walk->flat_bytes)
		to = ptap_user_memory_copy(walk->flat_address, walk->flat_bytes, to);
	part->length = (u8 *)to - (u8 *)part;
	return to;
}
NOKPROBE_SYMBOL(ptap_user_write);
