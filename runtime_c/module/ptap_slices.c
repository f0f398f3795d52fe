// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Runs of words become slices. Where no return address was replaced, they are packed as they lie there. */

#include <linux/kprobes.h>
#include <linux/mm.h>

#include "ptap_record.h"
#include "ptap_slices.h"
#include "ptap_stack.h"
#include "ptap_x86_64.h"

/* No return address, and no other word either that code has a use for: what has this value is read by a call. */
#define NO_TRAMPOLINE (~0ull)

void ptap_slices_begin(struct ptap_stack_words *words, u64 stack, u64 pointer, u64 trampoline)
{
	words->task_stack = stack;
	words->first_stack = ptap_is_user_pc(pointer) ? stack : pointer & ~(u64)(THREAD_SIZE - 1);
	words->near.size = 0;
	words->near.except = trampoline ? trampoline : NO_TRAMPOLINE;
	words->near.noted = &words->noted;
	words->noted.runs = words->runs;
	words->noted.room = PTAP_MAXIMUM_RUNS;
	words->noted.count = 0;
	words->noted.left_out = 0;
	words->replaced = 0;
	ptap_stack_move(words, pointer);
}
NOKPROBE_SYMBOL(ptap_slices_begin);

void ptap_slices_forget(struct ptap_stack_words *words)
{
	words->noted.count = 0;
	words->noted.left_out = 0;
	words->run_words = 0;
}
NOKPROBE_SYMBOL(ptap_slices_forget);

void ptap_slices_gather(struct ptap_stack_words *words)
{
	u64 bytes = 0;
	u32 index;

	for (index = 0; index < words->noted.count; index++)
		bytes += words->runs[index].end - words->runs[index].begin;
	words->run_words = bytes / 8;
}
NOKPROBE_SYMBOL(ptap_slices_gather);

/* Pack a run whose words have to be asked for one by one, up to the first that cannot be read; their number. */
static u32 pack_slowly(struct ptap_stack_words *words, const struct ptap_run *run, struct ptap_writer *writer)
{
	u64 address, value;
	int readable;

	for (address = run->begin; address < run->end; address += sizeof(value)) {
		value = ptap_stack_word(words, address, &readable);
		if (!readable)
			break;
		ptap_pack_words(writer, &value, 1);
	}
	return (address - run->begin) / sizeof(value);
}
NOKPROBE_SYMBOL(pack_slowly);

u32 ptap_slices_write(struct ptap_stack_words *words, struct ptap_writer *writer)
{
	const struct ptap_near *near = &words->near;
	u32 index, unread = 0;

	for (index = 0; index < words->noted.count; index++) {
		const struct ptap_run *run = &words->runs[index];
		u64 from = run->begin - near->start, size = run->end - run->begin;
		u32 asked = size / sizeof(u64), count = asked;

		ptap_run_begin(writer, run->begin);
		if (likely(from < near->size && near->size - from >= size && !words->replaced))
			ptap_pack_words(writer, (const u64 *)(near->content + from), count);
		else
			count = pack_slowly(words, run, writer);
		ptap_run_end(writer, count);
		unread += asked - count;
	}
	return unread;
}
NOKPROBE_SYMBOL(ptap_slices_write);
