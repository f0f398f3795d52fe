// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Lookup in a compact unwind table. The row coding is told in cfi_tables/rows.py, the layout in schema.py. */

#include "ptap_lookup.h"
#include "ptap_coding.h"

/* A place in a block, and the row that was read last. */
struct row_cursor {
	const uint8_t *table;
	const struct ptap_header *header;
	const uint8_t *block;
	uint32_t at; /* bit of the block */
	uint32_t state; /* a step word, 0 when the block is damaged */
	uint64_t address;
};

static uint64_t low_bits(uint64_t value, uint32_t count)
{
	return value & (((uint64_t)1 << count) - 1);
}

/* The bits from the cursor on, 57 of them right. */
static uint64_t read_bits(const struct row_cursor *cursor)
{
	const uint8_t *from = cursor->block + (cursor->at >> 3);

	return (read_u32(from) | (uint64_t)read_u32(from + 4) << 32) >> (cursor->at & 7);
}

/* The state of the rule whose id stands at the cursor, which moves behind it. */
static uint32_t read_rule_id(struct row_cursor *cursor)
{
	const struct ptap_header *header = cursor->header;
	uint32_t rule = (uint32_t)low_bits(read_bits(cursor), header->rule_bits);

	cursor->at += header->rule_bits;
	if (rule >= header->rule_count)
		return 0;
	return read_u32(cursor->table + header->states_offset + 4 * rule);
}

/* Add the delta at the cursor to its address, and move behind it. */
static void read_delta(struct row_cursor *cursor, uint32_t delta_class)
{
	const struct ptap_header *header = cursor->header;
	const uint8_t *deltas = cursor->table + header->deltas_offset;
	uint64_t window = read_bits(cursor);
	uint32_t place = (delta_class << header->delta_bits) + (uint32_t)low_bits(window, header->delta_bits);
	uint32_t code = read_u16(deltas + 2 * place);
	uint32_t extra = DELTA_EXTRA(code);
	uint64_t delta;

	if (extra > PTAP_DELTA_NEAR_EXTRA) { /* it has no base, and zero means zero */
		extra = extra == PTAP_DELTA_EXTRA_U32 ? 32 : extra;
		cursor->at += LENGTH(code);
		cursor->address += low_bits(read_bits(cursor), extra);
		cursor->at += extra;
		return;
	}
	delta = DELTA_BASE(code) + low_bits(window >> LENGTH(code), extra);
	if (!delta)
		delta = PTAP_DELTA_ALIGNMENT - (cursor->address & (PTAP_DELTA_ALIGNMENT - 1));
	cursor->at += LENGTH(code) + extra;
	cursor->address += delta;
}

/* Read the row at the cursor, behind one of a state that is not 0. */
static void next_row(struct row_cursor *cursor)
{
	const uint8_t *rules = cursor->table + cursor->header->rules_offset;
	uint32_t successor = (uint32_t)low_bits(read_bits(cursor), SUCCESSOR_BITS(cursor->state));
	uint32_t step = read_u32(rules + sizeof(struct ptap_rule) + 4 * (RECORD(cursor->state) + successor));

	cursor->at += LENGTH(step);
	cursor->state = RECORD(step) ? step : read_rule_id(cursor);
	read_delta(cursor, DELTA_CLASS(step));
}

/* The last of `count` (at least one) blocks that begins at or before `relative`; the first when none does. */
static uint32_t find_block(const uint8_t *index, uint32_t count, uint64_t relative)
{
	uint32_t block = 0;

	while (count > 1) {
		uint32_t half = count / 2;

		if (read_u32(index + 4 * (block + half)) <= relative)
			block += half;
		count -= half;
	}
	return block;
}

/* The state in force at `relative` bytes from the rounded text start, 0 when there is none. */
static uint32_t find_state(const uint8_t *table, const struct ptap_header *header, uint64_t relative)
{
	const uint8_t *index = table + header->index_offset;
	struct row_cursor cursor = { .table = table, .header = header };
	uint32_t block, row, found;

	if (!header->block_count)
		return 0;
	block = find_block(index, header->block_count, relative);
	cursor.block = table + header->blocks_offset + block * header->block_bytes;
	cursor.address = read_u32(index + 4 * block);
	if (cursor.address > relative)
		return 0;
	cursor.state = read_rule_id(&cursor);
	for (row = 1; row < PTAP_BLOCK_ROWS && cursor.state; row++) {
		found = cursor.state;
		next_row(&cursor);
		if (cursor.address > relative || cursor.at > 8 * (uint32_t)header->block_bytes)
			return found;
	}
	return cursor.state;
}

int32_t ptap_find_rule(const uint8_t *table, uint32_t size, uint64_t pc)
{
	const struct ptap_header *header = (const void *)table;
	uint64_t base;
	uint32_t state, record;

	/* Kernel addresses are above the sign bit; a table never spans it, so unsigned comparison is right. */
	if (size < sizeof(*header) || pc < header->text_start || pc >= header->text_end)
		return -1;
	base = header->text_start & ~(uint64_t)(PTAP_DELTA_ALIGNMENT - 1);
	state = find_state(table, header, pc - base);
	record = header->rules_offset + 4 * RECORD(state);
	if (!state || record > size - sizeof(struct ptap_rule) || table[record] == PTAP_CFA_KIND_INVALID)
		return -1;
	return (int32_t)record;
}
