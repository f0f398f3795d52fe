// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The check of a table. What is checked, and why no more, is told in cfi_tables/table_check.py. */

#include "ptap_check.h"
#include "ptap_coding.h"

#define MACHINE_X86_64 62
#define REGISTERS 17
#define BUILD_ID_MAXIMUM 20
#define RULE_BITS_MAXIMUM 16
#define DELTA_BITS_MAXIMUM 15

static const struct ptap_header *header_of(const uint8_t *table)
{
	return (const void *)table;
}

static uint32_t word_at(const uint8_t *table, uint32_t part, uint32_t index)
{
	return read_u32(table + part + 4 * (uint64_t)index);
}

/* Rows count from the text start, rounded down, in 32 bits; no table spans the sign bit. */
static int is_text_range(uint64_t start, uint64_t end)
{
	uint64_t base = start & ~(uint64_t)(PTAP_DELTA_ALIGNMENT - 1);

	return start <= end && start >> 63 == end >> 63 && end - base <= UINT32_MAX;
}

static int counts_agree(const struct ptap_header *header)
{
	uint64_t rows = (uint64_t)header->row_count + 1;

	return header->block_count > 0 && header->block_count <= rows &&
	       rows <= (uint64_t)header->block_count * PTAP_BLOCK_ROWS && header->rule_count > 0 &&
	       header->rule_count <= rows && header->rule_count <= PTAP_MAXIMUM_RULES && header->rule_bits > 0 &&
	       header->rule_bits <= RULE_BITS_MAXIMUM && header->delta_bits > 0 &&
	       header->delta_bits <= DELTA_BITS_MAXIMUM && header->class_count > 0 &&
	       header->class_count <= PTAP_MAXIMUM_CLASSES && header->block_bytes >= PTAP_MINIMUM_BLOCK_BYTES &&
	       header->block_bytes <= PTAP_MAXIMUM_BLOCK_BYTES;
}

static int is_inside(const struct ptap_header *header, uint32_t offset, uint64_t size)
{
	return offset >= sizeof(*header) && offset % 4 == 0 && offset + size <= header->table_size;
}

static int parts_are_inside(const struct ptap_header *header)
{
	uint64_t blocks = (uint64_t)header->block_bytes * header->block_count + PTAP_BLOCK_SPARE_BYTES;
	uint64_t deltas = (uint64_t)(2u * header->class_count) << header->delta_bits;

	return is_inside(header, header->index_offset, 4 * (uint64_t)header->block_count) &&
	       is_inside(header, header->states_offset, 4 * (uint64_t)header->rule_count) &&
	       is_inside(header, header->rules_offset, header->rules_size) && header->rules_size % 4 == 0 &&
	       is_inside(header, header->lists_offset, header->lists_size) && header->lists_size % 4 == 0 &&
	       is_inside(header, header->deltas_offset, deltas) && is_inside(header, header->blocks_offset, blocks) &&
	       is_inside(header, header->expressions_offset, header->expressions_size);
}

static int index_grows(const uint8_t *table)
{
	const struct ptap_header *header = header_of(table);

	for (uint32_t block = 1; block < header->block_count; block++) {
		if (word_at(table, header->index_offset, block) <= word_at(table, header->index_offset, block - 1))
			return 0;
	}
	return 1;
}

/* Every state is a record with its successors behind it, one state's after the other's. */
static int states_are_sound(const uint8_t *table)
{
	const struct ptap_header *header = header_of(table);
	uint64_t free = 1; /* word of the rules area */

	for (uint32_t rule = 0; rule < header->rule_count; rule++) {
		uint32_t state = word_at(table, header->states_offset, rule);

		if (LENGTH(state) || DELTA_CLASS(state) || RECORD(state) < free ||
		    SUCCESSOR_BITS(state) + header->delta_bits + PTAP_DELTA_NEAR_EXTRA > NEAR_BITS)
			return 0;
		free = (uint64_t)RECORD(state) + RECORD_WORDS + ((uint64_t)1 << SUCCESSOR_BITS(state));
	}
	return free <= header->rules_size / 4;
}

/* Whether the word is one of the states, which grow. */
static int is_state(const uint8_t *table, uint32_t word)
{
	const struct ptap_header *header = header_of(table);
	uint32_t low = 0, high = header->rule_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (word_at(table, header->states_offset, middle) < word)
			low = middle + 1;
		else
			high = middle;
	}
	return low < header->rule_count && word_at(table, header->states_offset, low) == word;
}

/* Whether each delta's code is no longer than what its table is indexed by, and far ones have no base. */
static int deltas_are_sound(const uint8_t *table)
{
	const struct ptap_header *header = header_of(table);

	for (uint32_t index = 0; index < (uint32_t)header->class_count << header->delta_bits; index++) {
		uint32_t word = read_u16(table + header->deltas_offset + 2 * (uint64_t)index);

		if (LENGTH(word) > header->delta_bits ||
		    (DELTA_EXTRA(word) > PTAP_DELTA_NEAR_EXTRA && DELTA_BASE(word)))
			return 0;
	}
	return 1;
}

/* Whether each successor of a state is a state as well, or an escape, and its class is there. */
static int successors_are_sound(const uint8_t *table, uint32_t state)
{
	const struct ptap_header *header = header_of(table);

	for (uint32_t index = 0; index < 1u << SUCCESSOR_BITS(state); index++) {
		uint32_t word = word_at(table, header->rules_offset, RECORD(state) + RECORD_WORDS + index);

		if (LENGTH(word) > SUCCESSOR_BITS(state) || DELTA_CLASS(word) >= header->class_count)
			return 0;
		if (RECORD(word) && !is_state(table, word & ~(uint32_t)255))
			return 0;
	}
	return 1;
}

static int is_expression(const uint8_t *table, int32_t offset)
{
	const struct ptap_header *header = header_of(table);

	if (offset < 0 || (uint64_t)offset + 2 > header->expressions_size)
		return 0;
	return (uint64_t)offset + 2 + read_u16(table + header->expressions_offset + offset) <= header->expressions_size;
}

static enum ptap_table_fault check_entry(const uint8_t *table, uint32_t word)
{
	int32_t value = ENTRY_VALUE(word);

	if (ENTRY_KIND(word) > PTAP_REGISTER_KIND_VAL_EXPRESSION || ENTRY_REGISTER(word) >= REGISTERS)
		return PTAP_TABLE_RULES;
	switch (ENTRY_KIND(word)) {
	case PTAP_REGISTER_KIND_IN_REGISTER:
		return value >= 0 && value < REGISTERS ? PTAP_TABLE_SOUND : PTAP_TABLE_RULES;
	case PTAP_REGISTER_KIND_EXPRESSION:
	case PTAP_REGISTER_KIND_VAL_EXPRESSION:
		return is_expression(table, value) ? PTAP_TABLE_SOUND : PTAP_TABLE_EXPRESSIONS;
	}
	return PTAP_TABLE_SOUND;
}

static enum ptap_table_fault check_rule(const uint8_t *table, uint32_t state)
{
	const struct ptap_header *header = header_of(table);
	const struct ptap_rule *rule = (const void *)(table + header->rules_offset + 4 * (uint64_t)RECORD(state));
	uint32_t words = header->lists_size / 4, count;

	if (rule->cfa_kind > PTAP_CFA_KIND_OVERFLOW || rule->cfa_register >= REGISTERS)
		return PTAP_TABLE_RULES;
	if (rule->cfa_kind == PTAP_CFA_KIND_EXPRESSION && !is_expression(table, rule->cfa_value))
		return PTAP_TABLE_EXPRESSIONS;
	if (rule->list >= words)
		return PTAP_TABLE_LISTS;
	count = word_at(table, header->lists_offset, rule->list) & 255;
	if (rule->list + 1 + count > words)
		return PTAP_TABLE_LISTS;
	for (uint32_t index = 0; index < count; index++) {
		enum ptap_table_fault fault =
			check_entry(table, word_at(table, header->lists_offset, rule->list + 1 + index));

		if (fault != PTAP_TABLE_SOUND)
			return fault;
	}
	return PTAP_TABLE_SOUND;
}

static enum ptap_table_fault check_rules(const uint8_t *table)
{
	const struct ptap_header *header = header_of(table);

	for (uint32_t number = 0; number < header->rule_count; number++) {
		uint32_t state = word_at(table, header->states_offset, number);
		enum ptap_table_fault fault;

		if (!successors_are_sound(table, state))
			return PTAP_TABLE_SUCCESSORS;
		fault = check_rule(table, state);
		if (fault != PTAP_TABLE_SOUND)
			return fault;
	}
	return PTAP_TABLE_SOUND;
}

enum ptap_table_fault ptap_check_table(const uint8_t *table, uint64_t size)
{
	const struct ptap_header *header = header_of(table);

	if (size < sizeof(*header))
		return PTAP_TABLE_SHORT;
	if (header->magic != PTAP_TABLE_MAGIC || header->format_version != PTAP_FORMAT_VERSION ||
	    header->machine != MACHINE_X86_64)
		return PTAP_TABLE_FOREIGN;
	if (header->table_size != size || size % 8)
		return PTAP_TABLE_SIZE;
	if (header->build_id_size > BUILD_ID_MAXIMUM || !is_text_range(header->text_start, header->text_end))
		return PTAP_TABLE_COUNTS;
	if (!header->row_count && !header->rule_count && !header->block_count)
		return PTAP_TABLE_SOUND;
	if (!counts_agree(header))
		return PTAP_TABLE_COUNTS;
	if (!parts_are_inside(header))
		return PTAP_TABLE_PARTS;
	if (!index_grows(table))
		return PTAP_TABLE_INDEX;
	if (!states_are_sound(table))
		return PTAP_TABLE_STATES;
	if (!deltas_are_sound(table))
		return PTAP_TABLE_DELTAS;
	return check_rules(table);
}
