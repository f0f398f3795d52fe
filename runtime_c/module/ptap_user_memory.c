// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The user's memory. In the task's own context, or in an interrupt that came to it. */

#include <linux/bitops.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "ptap_record.h"
#include "ptap_return_instance.h"
#include "ptap_user_memory.h"

#define WINDOW_BYTES (8 * PTAP_USER_WINDOW_WORDS)
#define WINDOW_ALIGNMENT 256
#define NEAR_WORDS 2 /* by which runs may lie apart and still be one */

/* Of a copy, every word is as the walk wants it; one of this value only takes a call more. */
#define NO_WORD (~0ull)

void ptap_user_memory_begin(struct ptap_user_memory *memory)
{
	memory->window_count = 0;
	memory->latest = 0;
	memory->left_out = 0;
	memory->has_marks = 0;
	memory->run_count = 0;
	memory->run_words = 0;
	memory->noted = (struct ptap_noted){ .runs = memory->read, .room = PTAP_USER_RUNS };
	memory->near = (struct ptap_near){ .except = NO_WORD, .noted = &memory->noted };
}
NOKPROBE_SYMBOL(ptap_user_memory_begin);

static struct ptap_user_window *use_window(struct ptap_user_memory *memory, u32 index)
{
	struct ptap_user_window *window = &memory->windows[index];

	memory->latest = index;
	memory->near.start = window->start;
	memory->near.size = window->size;
	memory->near.content = (const u8 *)window->words;
	return window;
}
NOKPROBE_SYMBOL(use_window);

/* Copy the window that begins at `start`; 0 when it cannot be. */
static int copy_window(struct ptap_user_window *window, u64 start)
{
	u64 page_end = (start & PAGE_MASK) + PAGE_SIZE;
	const void __user *from = (const void __user *)(unsigned long)start;

	window->size = WINDOW_BYTES;
	if (copy_from_user_nofault(window->words, from, window->size)) {
		/* The next page may not be there. */
		window->size = page_end - start;
		if (window->size >= WINDOW_BYTES || copy_from_user_nofault(window->words, from, window->size))
			return 0;
	}
	window->start = start;
	memset(window->marked, 0, sizeof(window->marked));
	ptap_return_replace_all(start, window->words, window->size);
	return 1;
}
NOKPROBE_SYMBOL(copy_window);

/*
 * The window that holds the `span` bytes from `address` on, which is copied when it was not; null when it cannot be, or
 * there are too many. Walks go upwards, so it begins shortly before them, and the newest windows are looked at first.
 */
static struct ptap_user_window *window_of(struct ptap_user_memory *memory, u64 address, u32 span)
{
	u64 start = address & ~(u64)(WINDOW_ALIGNMENT - 1);
	u32 index;

	for (index = memory->window_count; index--;) {
		const struct ptap_user_window *window = &memory->windows[index];

		if (address - window->start < window->size && window->size - (address - window->start) >= span)
			return use_window(memory, index);
	}
	if (memory->window_count == PTAP_USER_WINDOWS || !copy_window(&memory->windows[memory->window_count], start))
		return NULL;
	return use_window(memory, memory->window_count++);
}
NOKPROBE_SYMBOL(window_of);

static inline struct ptap_user_window *window_at(struct ptap_user_memory *memory, u64 address)
{
	struct ptap_user_window *window = &memory->windows[memory->latest];

	if (likely(memory->window_count && address - window->start < window->size))
		return window;
	return window_of(memory, address, sizeof(u64));
}

int ptap_user_reach(void *context, uint64_t low, uint32_t span)
{
	return window_of(context, low, span) != NULL;
}
NOKPROBE_SYMBOL(ptap_user_reach);

/* The word at `address`, a multiple of 8. */
static enum ptap_read read_word(struct ptap_user_memory *memory, u64 address, u64 *value)
{
	struct ptap_user_window *window = window_at(memory, address);

	if (!window) {
		if (copy_from_user_nofault(value, (const void __user *)(unsigned long)address, 8))
			return PTAP_READ_NOT_CAPTURED;
		*value = ptap_return_replaced(address, *value);
		memory->left_out++;
		return PTAP_READ_DONE;
	}
	*value = window->words[(address - window->start) / 8];
	ptap_note_word(&memory->noted, address);
	return PTAP_READ_DONE;
}
NOKPROBE_SYMBOL(read_word);

enum ptap_read ptap_user_read(void *context, uint64_t address, uint32_t size, uint64_t *value)
{
	u32 inside = address % 8, shift = 8 * inside;
	enum ptap_read status;
	u64 more;

	status = read_word(context, address - inside, value);
	if (status != PTAP_READ_DONE || (!inside && size == 8))
		return status;
	*value >>= shift;
	if (inside + size > 8) {
		status = read_word(context, address - inside + 8, &more);
		if (status != PTAP_READ_DONE)
			return status;
		*value |= more << (64 - shift);
	}
	if (size < 8)
		*value &= (1ull << 8 * size) - 1;
	return PTAP_READ_DONE;
}
NOKPROBE_SYMBOL(ptap_user_read);

void ptap_user_memory_mark(struct ptap_user_memory *memory, u64 start, u64 end)
{
	memory->has_marks = 1;
	for (start &= ~7ull; start < end; start += 8) {
		struct ptap_user_window *window = window_at(memory, start);

		if (!window)
			break;
		__set_bit((start - window->start) / 8, window->marked);
	}
}
NOKPROBE_SYMBOL(ptap_user_memory_mark);

static void add_run(struct ptap_user_memory *memory, u64 address, const u64 *words, u32 count)
{
	if (memory->run_count == PTAP_USER_RUNS) {
		memory->left_out += count;
		return;
	}
	memory->runs[memory->run_count++] = (struct ptap_user_run){ address, words, count };
	memory->run_words += count;
}
NOKPROBE_SYMBOL(add_run);

/* What was read lies in windows, maybe in more than one. */
static void gather_read(struct ptap_user_memory *memory, const struct ptap_run *run)
{
	u64 address = run->begin;

	while (address < run->end) {
		struct ptap_user_window *window = window_at(memory, address);
		u32 count;

		if (!window)
			break;
		count = (min(run->end, window->start + window->size) - address) / 8;
		add_run(memory, address, window->words + (address - window->start) / 8, count);
		address += 8 * count;
	}
}
NOKPROBE_SYMBOL(gather_read);

static void gather_window(struct ptap_user_memory *memory, const struct ptap_user_window *window)
{
	const u32 size = PTAP_USER_WINDOW_WORDS;
	unsigned long begin = find_next_bit(window->marked, size, 0);

	while (begin < size) {
		unsigned long end = find_next_zero_bit(window->marked, size, begin);
		unsigned long next = find_next_bit(window->marked, size, end);

		while (next < size && next - end <= NEAR_WORDS) {
			end = find_next_zero_bit(window->marked, size, next);
			next = find_next_bit(window->marked, size, end);
		}
		add_run(memory, window->start + 8 * begin, window->words + begin, end - begin);
		begin = next;
	}
}
NOKPROBE_SYMBOL(gather_window);

void ptap_user_memory_gather(struct ptap_user_memory *memory)
{
	u32 index;

	memory->left_out += memory->noted.left_out;
	for (index = 0; index < memory->noted.count; index++) {
		if (memory->has_marks)
			ptap_user_memory_mark(memory, memory->read[index].begin, memory->read[index].end);
		else
			gather_read(memory, &memory->read[index]);
	}
	for (index = 0; memory->has_marks && index < memory->window_count; index++)
		gather_window(memory, &memory->windows[index]);
}
NOKPROBE_SYMBOL(ptap_user_memory_gather);

void ptap_user_memory_write(const struct ptap_user_memory *memory, struct ptap_writer *writer)
{
	u32 index;

	for (index = 0; index < memory->run_count; index++) {
		const struct ptap_user_run *run = &memory->runs[index];

		ptap_run_begin(writer, run->address);
		ptap_pack_words(writer, run->words, run->count);
		ptap_run_end(writer, run->count);
	}
}
NOKPROBE_SYMBOL(ptap_user_memory_write);

void *ptap_user_memory_copy(u64 address, u32 size, void *to)
{
	struct ptap_flat *flat = to;
	u8 *bytes = (u8 *)(flat + 1);
	u32 done = 0, room;

	/* By pages, as one of them may be there and the next one not. */
	for (; done < size; done += room) {
		room = min_t(u64, size - done, PAGE_SIZE - ((address + done) & ~PAGE_MASK));
		if (copy_from_user_nofault(bytes + done, (const void __user *)(unsigned long)(address + done), room))
			break;
	}
	*flat = (struct ptap_flat){ .address = address, .asked = size, .copied = done };
	ptap_return_replace_all(address, flat + 1, done);
	return bytes + done;
}
NOKPROBE_SYMBOL(ptap_user_memory_copy);
