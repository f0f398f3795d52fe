// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Lookup in a compact unwind table. The row coding is told in cfi_tables/rows.py, the layout in schema.py. */

#include "ptap_lookup.h"
#include "ptap_coding.h"

/* What the rows of a table are read with. */
struct row_tables {
	const struct ptap_header *header;
	const uint8_t *states;
	const uint8_t *successors; /* word 0 is behind the record at word 0 */
	const uint8_t *deltas;
	uint32_t delta_bits;
};

/* The row that was read last; the next one begins at bit `at` of the block. */
struct row {
	uint64_t address;
	uint32_t at;
	uint32_t state; /* a step word, 0 when the block is damaged */
};

/* The lowest bits, by how many of them: a load where shifts would be four instructions. */
static const uint32_t masks[16] = {
	0x0, 0x1, 0x3, 0x7, 0xf, 0x1f, 0x3f, 0x7f, 0xff, 0x1ff, 0x3ff, 0x7ff, 0xfff, 0x1fff, 0x3fff, 0x7fff,
};

/* The bits of the block from bit `at` on, 57 of them right. */
static inline uint64_t read_bits(const uint8_t *block, uint32_t at)
{
	return read_u64(block + (at >> 3)) >> (at & 7);
}

/* The state of the rule whose id stands at bit `at`. */
static uint32_t read_rule_id(const struct row_tables *tables, const uint8_t *block, uint32_t at)
{
	uint64_t rule = read_bits(block, at) & (((uint64_t)1 << tables->header->rule_bits) - 1);

	return rule < tables->header->rule_count ? read_u32(tables->states + 4 * rule) : 0;
}

/* A row of which something does not fit into a word: `step` tells the rest. It is read anew from behind that. */
static struct row read_far_row(const struct row_tables *tables, const uint8_t *block, struct row row, uint32_t step)
{
	uint32_t code, extra;
	uint64_t window, delta;

	row.state = step;
	if (!RECORD(step)) {
		row.state = read_rule_id(tables, block, row.at);
		row.at += tables->header->rule_bits;
	}
	window = read_bits(block, row.at);
	code = read_u16(tables->deltas + 2 * ((DELTA_CLASS(step) << tables->delta_bits) +
					      ((uint32_t)window & masks[tables->delta_bits])));
	row.at += LENGTH(code);
	extra = DELTA_EXTRA(code) == PTAP_DELTA_EXTRA_U32 ? 32 : DELTA_EXTRA(code);
	delta = DELTA_BASE(code) + (read_bits(block, row.at) & (((uint64_t)1 << extra) - 1));
	row.at += extra;
	if (!delta && extra <= PTAP_DELTA_NEAR_EXTRA)
		delta = PTAP_DELTA_ALIGNMENT - (row.address & (PTAP_DELTA_ALIGNMENT - 1));
	row.address += delta;
	return row;
}

/* Read the row behind one of a state that is not 0. */
static inline struct row next_row(const struct row_tables *tables, const uint8_t *block, struct row row)
{
	/* What is read at once has NEAR_BITS at the most. */
	uint64_t window = read_bits(block, row.at);
	uint32_t step = read_u32(tables->successors +
				 4 * (uint64_t)(RECORD(row.state) + ((uint32_t)window & masks[SUCCESSOR_BITS(row.state)])));
	uint32_t code, delta;

	row.at += LENGTH(step);
	if (!RECORD(step))
		return read_far_row(tables, block, row, step);
	window >>= LENGTH(step);
	code = read_u16(tables->deltas + 2 * (uint64_t)((DELTA_CLASS(step) << tables->delta_bits) +
							((uint32_t)window & masks[tables->delta_bits])));
	if (DELTA_EXTRA(code) > PTAP_DELTA_NEAR_EXTRA)
		return read_far_row(tables, block, row, step);
	window >>= LENGTH(code);
	delta = DELTA_BASE(code) + ((uint32_t)window & masks[DELTA_EXTRA(code)]);
	if (!delta)
		delta = PTAP_DELTA_ALIGNMENT - ((uint32_t)row.address & (PTAP_DELTA_ALIGNMENT - 1));
	row.at += LENGTH(code) + DELTA_EXTRA(code);
	row.address += delta;
	row.state = step;
	return row;
}

/* The last of `count` (at least one) blocks that begins at or before `relative`; the first when none does. */
static inline uint32_t find_block(const uint8_t *index, uint32_t count, uint64_t relative)
{
	const uint8_t *block = index;

	while (count > 1) {
		uint32_t half = count / 2;

		if (read_u32(block + 4 * half) <= relative)
			block += 4 * half;
		count -= half;
	}
	return (uint32_t)(block - index) / 4;
}

/* The state in force at `relative` bytes from the rounded text start, 0 when there is none. */
static uint32_t find_state(const uint8_t *table, const struct ptap_header *header, uint64_t relative)
{
	const struct row_tables tables = {
		.header = header,
		.states = table + header->states_offset,
		.successors = table + header->rules_offset + sizeof(struct ptap_rule),
		.deltas = table + header->deltas_offset,
		.delta_bits = header->delta_bits,
	};
	const uint8_t *index = table + header->index_offset, *block;
	uint32_t end = 8 * (uint32_t)header->block_bytes, number, count;
	struct row row, next;

	if (!header->block_count)
		return 0;
	number = find_block(index, header->block_count, relative);
	block = table + header->blocks_offset + number * header->block_bytes;
	row = (struct row){ .address = read_u32(index + 4 * number), .at = header->rule_bits };
	if (row.address > relative)
		return 0;
	row.state = read_rule_id(&tables, block, 0);
	for (count = 1; count < PTAP_BLOCK_ROWS && row.state; count++) {
		next = next_row(&tables, block, row);
		if (next.address > relative || next.at > end)
			break;
		row = next;
	}
	return row.state;
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
