// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Lookup in a compact unwind table. The row coding is told in cfi_tables/rows.py. */

#include "ptap_lookup.h"

/* The row stream is followed by 8 spare bytes, so a row that begins inside of it can be read whole. */

/* What is no rule id. */
#define NO_RULE 0xffffffffu

static uint32_t read_u16(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static uint32_t read_u32(const uint8_t *at)
{
	return read_u16(at) | read_u16(at + 2) << 16;
}

/* The rule id at *at, which moves behind it. */
static uint32_t read_rule(const uint8_t *rows, uint32_t *at)
{
	uint32_t rule = rows[*at];

	*at += 1;
	if (rule == PTAP_RULE_U16) {
		rule = read_u16(rows + *at);
		*at += 2;
	}
	return rule;
}

/* The address delta at *at, which moves behind it. */
static uint32_t read_delta(const uint8_t *rows, uint32_t *at)
{
	uint32_t delta = rows[*at];

	*at += 1;
	if (delta == PTAP_DELTA_U16) {
		delta = read_u16(rows + *at);
		*at += 2;
	} else if (delta == PTAP_DELTA_U32) {
		delta = read_u32(rows + *at);
		*at += 4;
	}
	return delta;
}

/* The number of blocks that begin at or before `relative`. */
static uint32_t count_blocks(const struct ptap_index_entry *index, uint32_t count, uint64_t relative)
{
	uint32_t low = 0;

	while (low < count) {
		uint32_t middle = low + (count - low) / 2;

		if (index[middle].pc <= relative)
			low = middle + 1;
		else
			count = middle;
	}
	return low;
}

/* The id of the rule in force at `relative` bytes from the text start, NO_RULE when there is none. */
static uint32_t find_rule_id(const uint8_t *table, const struct ptap_header *header, uint64_t relative)
{
	const struct ptap_index_entry *index = (const void *)(table + header->index_offset);
	const uint8_t *rows = table + header->rows_offset;
	uint32_t block = count_blocks(index, header->block_count, relative);
	uint64_t address;
	uint32_t at, left, rule;

	if (!block)
		return NO_RULE;
	block--;
	address = index[block].pc;
	at = index[block].offset;
	left = header->row_count - block * PTAP_BLOCK_ROWS;
	if (left > PTAP_BLOCK_ROWS)
		left = PTAP_BLOCK_ROWS;
	if (at >= header->rows_size)
		return NO_RULE;
	rule = read_rule(rows, &at);
	while (left > 1 && at < header->rows_size) {
		address += read_delta(rows, &at);
		if (address > relative)
			break;
		rule = read_rule(rows, &at);
		left--;
	}
	return rule;
}

int32_t ptap_find_rule(const uint8_t *table, uint32_t size, uint64_t pc)
{
	const struct ptap_header *header = (const void *)table;
	uint32_t rule, record;

	/* Kernel addresses are above the sign bit; a table never spans it, so unsigned comparison is right. */
	if (size < sizeof(*header) || pc < header->text_start || pc >= header->text_end)
		return -1;
	rule = find_rule_id(table, header, pc - header->text_start);
	if (rule >= header->rule_count)
		return -1;
	record = read_u32(table + header->rule_offsets_offset + 4 * rule);
	if (record > size - sizeof(struct ptap_rule) || table[record] == PTAP_CFA_KIND_INVALID)
		return -1;
	return (int32_t)record;
}
