// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Runs of words become slices. Where no return address was replaced, they are copied as they lie there. */

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

u32 ptap_slices_gather(struct ptap_stack_words *words)
{
	u64 bytes = 0;
	u32 index;

	for (index = 0; index < words->noted.count; index++)
		bytes += words->runs[index].end - words->runs[index].begin;
	words->run_words = bytes / 8;
	return words->noted.count * sizeof(struct ptap_slice) + bytes;
}
NOKPROBE_SYMBOL(ptap_slices_gather);

/* Copy a run whose words have to be asked for one by one; where it ends, at the first that cannot be read. */
static u64 *copy_slowly(struct ptap_stack_words *words, const struct ptap_run *run, u64 *to)
{
	u64 address;
	int readable;

	for (address = run->begin; address < run->end; address += sizeof(*to), to++) {
		*to = ptap_stack_word(words, address, &readable);
		if (!readable)
			break;
	}
	return to;
}
NOKPROBE_SYMBOL(copy_slowly);

u32 ptap_slices_write(struct ptap_stack_words *words, void *to)
{
	const struct ptap_near *near = &words->near;
	u32 index, copied = 0;

	for (index = 0; index < words->noted.count; index++) {
		const struct ptap_run *run = &words->runs[index];
		struct ptap_slice *slice = to;
		u64 *values = (u64 *)(slice + 1), *begin = values;
		u64 from = run->begin - near->start, size = run->end - run->begin;

		if (likely(from < near->size && near->size - from >= size && !words->replaced)) {
			const volatile u64 *word = (const volatile void *)(near->content + from);

			for (; size; size -= sizeof(*word))
				*values++ = *word++;
		} else {
			values = copy_slowly(words, run, values);
		}
		slice->address = run->begin;
		slice->asked = run->end - run->begin;
		slice->copied = (u8 *)values - (u8 *)begin;
		copied += slice->copied;
		to = values;
	}
	return copied;
}
NOKPROBE_SYMBOL(ptap_slices_write);
