// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Words become runs: a slice has a header as large as two words, so runs that are as near as that are one. */

#include <linux/bitops.h>
#include <linux/kprobes.h>
#include <linux/minmax.h>
#include <linux/string.h>

#include "ptap_record.h"
#include "ptap_slices.h"
#include "ptap_stack.h"

#define NEAR_WORDS 2

void ptap_slices_begin(struct ptap_stack_words *words, u64 stack)
{
	u64 first = words->low / BITS_PER_LONG;

	/* What the hit before has marked. */
	if (words->low < words->high)
		memset(words->marked + first, 0,
		       (DIV_ROUND_UP(words->high, BITS_PER_LONG) - first) * sizeof(words->marked[0]));
	words->stack = stack;
	words->low = PTAP_STACK_WORDS;
	words->high = 0;
	words->other_count = 0;
	words->left_out = 0;
	words->run_count = 0;
	words->run_words = 0;
}
NOKPROBE_SYMBOL(ptap_slices_begin);

void ptap_slices_note(struct ptap_stack_words *words, u64 address)
{
	u64 number = (address - words->stack) / 8;

	if (ptap_slices_on_stack(words, address)) {
		__set_bit(number, words->marked);
		words->low = min(words->low, number);
		words->high = max(words->high, number + 1);
	} else if (words->other_count < PTAP_OTHER_WORDS) {
		words->others[words->other_count++] = address;
	} else {
		words->left_out++;
	}
}
NOKPROBE_SYMBOL(ptap_slices_note);

static void add_run(struct ptap_stack_words *words, u64 address, u64 count)
{
	if (words->run_count == PTAP_MAXIMUM_RUNS) {
		words->left_out += count;
		return;
	}
	words->runs[words->run_count++] = (struct ptap_run){ address, count };
	words->run_words += count;
}
NOKPROBE_SYMBOL(add_run);

u32 ptap_slices_gather(struct ptap_stack_words *words)
{
	unsigned long begin = find_next_bit(words->marked, words->high, words->low);
	u32 index;

	while (begin < words->high) {
		unsigned long end = find_next_zero_bit(words->marked, words->high, begin);
		unsigned long next = find_next_bit(words->marked, words->high, end);

		while (next < words->high && next - end <= NEAR_WORDS) {
			end = find_next_zero_bit(words->marked, words->high, next);
			next = find_next_bit(words->marked, words->high, end);
		}
		add_run(words, words->stack + 8 * begin, end - begin);
		begin = next;
	}
	for (index = 0; index < words->other_count; index++)
		add_run(words, words->others[index], 1);
	return words->run_count * sizeof(struct ptap_slice) + 8 * words->run_words;
}
NOKPROBE_SYMBOL(ptap_slices_gather);

u32 ptap_slices_write(const struct ptap_stack_words *words, void *to)
{
	u32 index, word, copied = 0;

	for (index = 0; index < words->run_count; index++) {
		const struct ptap_run *run = &words->runs[index];
		struct ptap_slice *slice = to;
		u64 *values = (u64 *)(slice + 1);
		int readable;

		for (word = 0; word < run->count; word++) {
			values[word] = ptap_stack_word(words, run->address + 8 * word, &readable);
			if (!readable)
				break;
		}
		*slice = (struct ptap_slice){ .address = run->address, .asked = 8 * run->count, .copied = 8 * word };
		copied += slice->copied;
		to = values + word;
	}
	return copied;
}
NOKPROBE_SYMBOL(ptap_slices_write);
