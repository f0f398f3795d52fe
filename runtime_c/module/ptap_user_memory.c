// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The user's memory. In the task's own context, or in an interrupt that came to it. */

#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "ptap_record.h"
#include "ptap_return_instance.h"
#include "ptap_user_memory.h"

/* A stretch ends at a multiple of this, a part of a page: what is copied at once is in memory, or is not. */
#define CHUNK_BYTES 512
/* What is copied below a word that begins a stretch: a rule reads downwards, and runs have short gaps. */
#define BELOW_BYTES 64
/* What has this value is read by a call, like any word that is not near. */
#define NO_EXCEPTION (~0ull)

static int copy_words(void *to, u64 address, u32 size)
{
	return !copy_from_user_nofault(to, (const void __user *)(unsigned long)address, size);
}
NOKPROBE_SYMBOL(copy_words);

/* Copy up to the end of the chunk that `address` lies in, behind what is used of the buffer; the bytes, 0 for none. */
static u32 copy_chunk(struct ptap_user_memory *memory, u64 address)
{
	u32 size = CHUNK_BYTES - address % CHUNK_BYTES;
	u8 *to = memory->buffer + memory->used;

	if (size > PTAP_USER_BUFFER_BYTES - memory->used || !copy_words(to, address, size))
		return 0;
	ptap_return_replace_all(address, (u64 *)to, size / 8);
	memory->used += size;
	return size;
}
NOKPROBE_SYMBOL(copy_chunk);

static void move_near(struct ptap_user_memory *memory, const struct ptap_user_stretch *stretch)
{
	memory->near.start = stretch->start;
	memory->near.size = stretch->size;
	memory->near.content = memory->buffer + stretch->place;
}
NOKPROBE_SYMBOL(move_near);

static const struct ptap_user_stretch *find_stretch(const struct ptap_user_memory *memory, u64 address)
{
	u32 index;

	/* Walks go upwards: the newest ones first. */
	for (index = memory->stretch_count; index--;) {
		if (address - memory->stretches[index].start < memory->stretches[index].size)
			return &memory->stretches[index];
	}
	return NULL;
}
NOKPROBE_SYMBOL(find_stretch);

/* Make the last stretch go on to the word at `address`, which lies in one of the two chunks behind it, or do nothing. */
static void extend(struct ptap_user_memory *memory, u64 address)
{
	struct ptap_user_stretch *last = memory->stretches + memory->stretch_count - 1;

	if (!memory->stretch_count || address - (last->start + last->size) >= 2 * CHUNK_BYTES)
		return;
	while (address - last->start >= last->size) {
		u32 size = copy_chunk(memory, last->start + last->size);

		if (!size)
			return;
		last->size += size;
	}
}
NOKPROBE_SYMBOL(extend);

/* Begin a stretch with the word at `address`, or do nothing. */
static void begin_stretch(struct ptap_user_memory *memory, u64 address)
{
	struct ptap_user_stretch *stretch = memory->stretches + memory->stretch_count;
	u64 start = max_t(u64, address - BELOW_BYTES, address & PAGE_MASK);

	if (memory->stretch_count == PTAP_USER_STRETCHES || address < BELOW_BYTES)
		return;
	stretch->start = start;
	stretch->place = memory->used;
	stretch->size = copy_chunk(memory, start);
	if (!stretch->size)
		return;
	memory->stretch_count++;
	/* What lies below may have filled the chunk. */
	if (address - start >= stretch->size)
		extend(memory, address);
}
NOKPROBE_SYMBOL(begin_stretch);

/* The stretch with the word at `address`, a multiple of 8, which is copied when it was not; null when it cannot be. */
static const struct ptap_user_stretch *stretch_of(struct ptap_user_memory *memory, u64 address)
{
	const struct ptap_user_stretch *found = find_stretch(memory, address);

	if (!found) {
		extend(memory, address);
		found = find_stretch(memory, address);
	}
	if (!found) {
		begin_stretch(memory, address);
		found = find_stretch(memory, address);
	}
	if (found)
		move_near(memory, found);
	return found;
}
NOKPROBE_SYMBOL(stretch_of);

void ptap_user_memory_begin(struct ptap_user_memory *memory, u64 pointer)
{
	memory->near = (struct ptap_near){ .except = NO_EXCEPTION, .noted = &memory->noted };
	memory->noted = (struct ptap_noted){ .runs = memory->runs, .room = PTAP_USER_RUNS };
	memory->stretch_count = 0;
	memory->used = 0;
	stretch_of(memory, pointer & ~7ull);
}
NOKPROBE_SYMBOL(ptap_user_memory_begin);

static u64 word_in(const struct ptap_user_memory *memory, const struct ptap_user_stretch *stretch, u64 address)
{
	return *(const u64 *)(memory->buffer + stretch->place + (address - stretch->start));
}
NOKPROBE_SYMBOL(word_in);

/* A word that is in no stretch. */
static int read_apart(u64 address, u64 *value)
{
	if (!copy_words(value, address, sizeof(*value)))
		return 0;
	ptap_return_replace_all(address, value, 1);
	return 1;
}
NOKPROBE_SYMBOL(read_apart);

/* The word at `address`, a multiple of 8. */
static enum ptap_read read_word(struct ptap_user_memory *memory, u64 address, u64 *value)
{
	const struct ptap_user_stretch *stretch = stretch_of(memory, address);

	if (stretch) {
		*value = word_in(memory, stretch, address);
		ptap_note_word(&memory->noted, address);
		return PTAP_READ_DONE;
	}
	if (!read_apart(address, value))
		return PTAP_READ_NOT_CAPTURED;
	memory->noted.left_out++;
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
	u64 ignored;

	for (start &= ~7ull; start < end; start += 8) {
		if (read_word(memory, start, &ignored) != PTAP_READ_DONE || memory->noted.left_out)
			break;
	}
}
NOKPROBE_SYMBOL(ptap_user_memory_mark);

u32 ptap_user_memory_size(const struct ptap_user_memory *memory)
{
	u32 index, size = memory->noted.count * sizeof(struct ptap_slice);

	for (index = 0; index < memory->noted.count; index++)
		size += memory->runs[index].end - memory->runs[index].begin;
	return size;
}
NOKPROBE_SYMBOL(ptap_user_memory_size);

/* Copy a run; where it ends, at the first word that cannot be read: one of a gap that no walk has read. */
static u64 *copy_run(const struct ptap_user_memory *memory, const struct ptap_run *run, u64 *to)
{
	const struct ptap_user_stretch *stretch = NULL;
	u64 address;

	for (address = run->begin; address < run->end; address += sizeof(*to), to++) {
		if (!stretch || address - stretch->start >= stretch->size)
			stretch = find_stretch(memory, address);
		if (stretch)
			*to = word_in(memory, stretch, address);
		else if (!read_apart(address, to))
			break;
	}
	return to;
}
NOKPROBE_SYMBOL(copy_run);

void *ptap_user_memory_write(const struct ptap_user_memory *memory, void *to)
{
	u32 index;

	for (index = 0; index < memory->noted.count; index++) {
		const struct ptap_run *run = &memory->runs[index];
		struct ptap_slice *slice = to;

		to = copy_run(memory, run, (u64 *)(slice + 1));
		*slice = (struct ptap_slice){
			.address = run->begin, .asked = run->end - run->begin, .copied = (u8 *)to - (u8 *)(slice + 1)
		};
	}
	return to;
}
NOKPROBE_SYMBOL(ptap_user_memory_write);

void *ptap_user_memory_copy(u64 address, u32 size, void *to)
{
	struct ptap_slice *slice = to;
	u8 *bytes = (u8 *)(slice + 1);
	u32 done = 0, room;

	/* By pages, as one of them may be there and the next one not. */
	for (; done < size; done += room) {
		room = min_t(u64, size - done, PAGE_SIZE - ((address + done) & ~PAGE_MASK));
		if (!copy_words(bytes + done, address + done, room))
			break;
	}
	*slice = (struct ptap_slice){ .address = address, .asked = size, .copied = done };
	ptap_return_replace_all(address, (u64 *)(slice + 1), done / 8);
	return bytes + done;
}
NOKPROBE_SYMBOL(ptap_user_memory_copy);
