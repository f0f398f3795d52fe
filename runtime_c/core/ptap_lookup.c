// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Lookup in a compact unwind table. The row coding is told in cfi_tables/rows.py, the layout in schema.py. */

#include "ptap_lookup.h"
#include "ptap_coding.h"

/* The row that was read last; the next one begins at bit `at` of the block. */
struct row {
	uint64_t address;
	uint32_t at;
	uint32_t state; /* a step word, 0 when the block is damaged */
};

/* Bits that are read at once, and how many of them may be used up when a row begins that is near. */
#define WINDOW_BITS 57
#define WINDOW_USED (WINDOW_BITS - NEAR_BITS)

/* The lowest bits, by how many of them: a load where shifts would be four instructions. */
static const uint32_t masks[16] = {
	0x0, 0x1, 0x3, 0x7, 0xf, 0x1f, 0x3f, 0x7f, 0xff, 0x1ff, 0x3ff, 0x7ff, 0xfff, 0x1fff, 0x3fff, 0x7fff,
};

/* The bits of the block from bit `at` on, WINDOW_BITS of them right. */
static PTAP_ALWAYS_INLINE uint64_t read_bits(const uint8_t *block, uint32_t at)
{
	return read_u64(block + (at >> 3)) >> (at & 7);
}

/* The state of the rule whose id is the lowest bits of `bits`. */
static PTAP_ALWAYS_INLINE uint32_t state_of(const struct ptap_header *header, uint64_t bits)
{
	const uint8_t *states = (const uint8_t *)header + header->states_offset;
	uint64_t rule = bits & (((uint64_t)1 << header->rule_bits) - 1);

	return rule < header->rule_count ? read_u32(states + 4 * rule) : 0;
}

/* A row of which something does not fit into a word: `step` tells the rest. It is read anew from behind that. */
static __attribute__((__noinline__)) struct row read_far_row(const struct ptap_header *header, const uint8_t *block,
							     struct row row, uint32_t step)
{
	const uint8_t *deltas = (const uint8_t *)header + header->deltas_offset;
	uint32_t code, extra;
	uint64_t window, delta;

	row.state = step;
	if (!RECORD(step)) {
		row.state = state_of(header, read_bits(block, row.at));
		row.at += header->rule_bits;
	}
	window = read_bits(block, row.at);
	code = read_u16(deltas + 2 * (uint64_t)((DELTA_CLASS(step) << header->delta_bits) +
						((uint32_t)window & masks[header->delta_bits])));
	row.at += LENGTH(code);
	extra = DELTA_EXTRA(code) == PTAP_DELTA_EXTRA_U32 ? 32 : DELTA_EXTRA(code);
	delta = DELTA_BASE(code) + (read_bits(block, row.at) & (((uint64_t)1 << extra) - 1));
	row.at += extra;
	if (!delta && extra <= PTAP_DELTA_NEAR_EXTRA)
		delta = PTAP_DELTA_ALIGNMENT - (row.address & (PTAP_DELTA_ALIGNMENT - 1));
	row.address += delta;
	return row;
}

/*
 * The state in force at `relative`, which is not before the block's first row at `address`; 0 when there is none. Most
 * of a lookup is spent here, some twenty rows a block, so what the rows are read with is in locals.
 */
static PTAP_ALWAYS_INLINE uint32_t state_in_block(const struct ptap_header *header, const uint8_t *block,
						  uint64_t address, uint64_t relative)
{
	/* Word 0 of the successors is behind the record at word 0. */
	const uint8_t *successors = (const uint8_t *)header + header->rules_offset + sizeof(struct ptap_rule);
	const uint8_t *deltas = (const uint8_t *)header + header->deltas_offset;
	const uint32_t end = 8 * (uint32_t)header->block_bytes;
	uint64_t delta_codes = (uint64_t)1 << header->delta_bits, last_code = delta_codes - 1;
	uint64_t window = read_bits(block, 0);
	struct row row = { .address = address, .at = header->rule_bits, .state = state_of(header, window) };
	uint32_t fresh = WINDOW_USED; /* the window serves rows that begin up to that bit */

	window >>= row.at;
	/* Compilers would take these apart again, and work them out for each row. */
	__asm__("" : "+r"(successors), "+r"(deltas), "+r"(delta_codes), "+r"(last_code));
	for (uint32_t count = 1; count < PTAP_BLOCK_ROWS && row.state; count++) {
		uint32_t step, code, extra, delta;
		struct row next;

		if (row.at > fresh) {
			window = read_bits(block, row.at);
			fresh = row.at + WINDOW_USED;
		}
		step = read_u32(successors + 4 * (RECORD(row.state) + (window & masks[SUCCESSOR_BITS(row.state)])));
		next.at = row.at + LENGTH(step);
		window >>= LENGTH(step);
		code = read_u16(deltas + 2 * (DELTA_CLASS(step) * delta_codes + (window & last_code)));
		extra = DELTA_EXTRA(code);
		if (!RECORD(step) || extra > PTAP_DELTA_NEAR_EXTRA) {
			next = read_far_row(header, block, (struct row){ row.address, next.at, 0 }, step);
			fresh = 0;
		} else {
			window >>= LENGTH(code);
			delta = DELTA_BASE(code) + ((uint32_t)window & masks[extra]);
			window >>= extra;
			if (!delta)
				delta = PTAP_DELTA_ALIGNMENT - ((uint32_t)row.address & (PTAP_DELTA_ALIGNMENT - 1));
			next.at += LENGTH(code) + extra;
			next.address = row.address + delta;
			next.state = step;
		}
		if (next.address > relative || next.at > end)
			break;
		row = next;
	}
	return row.state;
}

/*
 * The last of the `count` (at least one) blocks from number `first` on that begins at or before `relative`; the first of
 * them when none does.
 */
static PTAP_ALWAYS_INLINE uint32_t find_block(const uint8_t *index, uint32_t first, uint32_t count, uint64_t relative)
{
	uint32_t span = 1u << (31 - __builtin_clz(count));
	const uint8_t *block = index + 4 * (uint64_t)first, *behind = block + 4 * (uint64_t)(count - span);

	/* What is looked for is among the `span` from `block` on: halved, until it is one. */
	if (read_u32(behind) <= relative)
		block = behind;
	for (span /= 2; span; span /= 2) {
		const uint8_t *middle = block + 4 * (uint64_t)span;

		block = read_u32(middle) <= relative ? middle : block;
	}
	return (uint32_t)(block - index) / 4;
}

/* The state in force at `relative` bytes from the rounded text start, 0 when there is none. */
static PTAP_ALWAYS_INLINE uint32_t find_state(const struct ptap_header *header, uint64_t relative, const uint32_t *pages)
{
	const uint8_t *table = (const uint8_t *)header, *index = table + header->index_offset;
	uint32_t first = 0, count = header->block_count, number, address;

	if (!count)
		return 0;
	if (pages) {
		const uint32_t *page = pages + (relative >> PTAP_PAGE_BITS);

		first = page[0];
		count = page[1] - first + 1;
	}
	number = find_block(index, first, count, relative);
	address = read_u32(index + 4 * (uint64_t)number);
	if (address > relative)
		return 0;
	return state_in_block(header, table + header->blocks_offset + number * header->block_bytes, address, relative);
}

/* What addresses in a table are counted from. */
static PTAP_ALWAYS_INLINE uint64_t base_of(const struct ptap_header *header)
{
	return header->text_start & ~(uint64_t)(PTAP_DELTA_ALIGNMENT - 1);
}

uint32_t ptap_page_count(const uint8_t *table)
{
	const struct ptap_header *header = (const void *)table;

	return (uint32_t)((header->text_end - base_of(header)) >> PTAP_PAGE_BITS) + 2;
}

void ptap_list_pages(const uint8_t *table, uint32_t *pages)
{
	const struct ptap_header *header = (const void *)table;
	const uint8_t *index = table + header->index_offset;
	uint32_t count = ptap_page_count(table), block = 0;

	for (uint32_t page = 0; page < count; page++) {
		uint64_t start = (uint64_t)page << PTAP_PAGE_BITS;

		while (block + 1 < header->block_count && read_u32(index + 4 * (uint64_t)(block + 1)) <= start)
			block++;
		pages[page] = block;
	}
}

int32_t ptap_find_rule_by_page(const uint8_t *table, uint32_t size, uint64_t pc, const uint32_t *pages)
{
	const struct ptap_header *header = (const void *)table;
	uint32_t state, record;

	/* Kernel addresses are above the sign bit; a table never spans it, so unsigned comparison is right. */
	if (size < sizeof(*header) || pc < header->text_start || pc >= header->text_end)
		return -1;
	state = find_state(header, pc - base_of(header), pages);
	record = header->rules_offset + 4 * RECORD(state);
	if (!state || record > size - sizeof(struct ptap_rule) || table[record] == PTAP_CFA_KIND_INVALID)
		return -1;
	return (int32_t)record;
}

int32_t ptap_find_rule(const uint8_t *table, uint32_t size, uint64_t pc)
{
	return ptap_find_rule_by_page(table, size, pc, (void *)0);
}
