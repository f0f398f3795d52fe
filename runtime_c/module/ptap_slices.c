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

static void begin_window(struct ptap_window *window, u64 start)
{
	u64 first = window->near.low / BITS_PER_LONG;

	/* What an earlier hit has marked. */
	if (window->near.low < window->near.high)
		memset(window->marked + first, 0,
		       (DIV_ROUND_UP(window->near.high, BITS_PER_LONG) - first) * sizeof(window->marked[0]));
	window->near.start = start;
	window->near.low = PTAP_WINDOW_WORDS;
	window->near.high = 0;
	window->near.size = THREAD_SIZE;
	window->near.marked = (u64 *)window->marked;
}
NOKPROBE_SYMBOL(begin_window);

void ptap_slices_begin(struct ptap_stack_words *words, u64 stack)
{
	begin_window(&words->windows[0], stack);
	words->window_count = 1;
	words->left_out = 0;
	words->run_count = 0;
	words->run_words = 0;
}
NOKPROBE_SYMBOL(ptap_slices_begin);

/* The window that `address` lies in, a new one where there is none; null when there are too many. */
static struct ptap_window *window_of(struct ptap_stack_words *words, u64 address)
{
	struct ptap_window *window;
	u32 index;

	for (index = 0; index < words->window_count; index++) {
		window = &words->windows[index];
		if (address - window->near.start < THREAD_SIZE)
			return window;
	}
	if (index == PTAP_MAXIMUM_WINDOWS)
		return NULL;
	words->window_count++;
	begin_window(&words->windows[index], address & ~(u64)(THREAD_SIZE - 1));
	return &words->windows[index];
}
NOKPROBE_SYMBOL(window_of);

void ptap_slices_note(struct ptap_stack_words *words, u64 address)
{
	struct ptap_window *window = window_of(words, address);
	u64 number;

	if (!window) {
		words->left_out++;
		return;
	}
	number = (address - window->near.start) / 8;
	__set_bit(number, window->marked);
	window->near.low = min(window->near.low, number);
	window->near.high = max(window->near.high, number + 1);
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

static void gather_window(struct ptap_stack_words *words, const struct ptap_window *window)
{
	unsigned long begin = find_next_bit(window->marked, window->near.high, window->near.low);

	while (begin < window->near.high) {
		unsigned long end = find_next_zero_bit(window->marked, window->near.high, begin);
		unsigned long next = find_next_bit(window->marked, window->near.high, end);

		while (next < window->near.high && next - end <= NEAR_WORDS) {
			end = find_next_zero_bit(window->marked, window->near.high, next);
			next = find_next_bit(window->marked, window->near.high, end);
		}
		add_run(words, window->near.start + 8 * begin, end - begin);
		begin = next;
	}
}
NOKPROBE_SYMBOL(gather_window);

u32 ptap_slices_gather(struct ptap_stack_words *words)
{
	u32 index;

	for (index = 0; index < words->window_count; index++)
		gather_window(words, &words->windows[index]);
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
