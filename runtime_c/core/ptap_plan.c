// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* From a rule's record and its register list to a plan. What the kinds mean is told in cfi_tables/schema.py. */

#include "ptap_plan.h"
#include "ptap_coding.h"

/* Words between those that are read: what a pt_regs has that is no register, and some more. */
#define UNREAD_WORDS 4

/* Of a plan's frame; so that word numbers fit. */
#define MAXIMUM_SPAN 1024

/* What the list has told so far. */
struct listing {
	uint32_t listed; /* bit r: register r */
	uint32_t saved; /* those in words */
	uint32_t same;
	int32_t low, high; /* bytes from the CFA: [low, high) holds all that are saved */
	uint32_t words; /* that are read */
	uint32_t slots; /* of the plan; words are counted from the CFA until all are known, modulo 256 */
};

/* Register `number` is saved at the CFA plus `value`; 0 where that is not simple. */
static PTAP_ALWAYS_INLINE int take_saved(struct ptap_plan *plan, struct listing *listing, uint32_t wanted,
					 uint32_t number, int32_t value)
{
	uint8_t word = (uint8_t)((uint32_t)value / 8);

	if (value % 8 || value < -MAXIMUM_SPAN || value >= MAXIMUM_SPAN)
		return 0;
	listing->saved |= 1u << number;
	listing->low = listing->words && listing->low < value ? listing->low : value;
	listing->high = listing->words && listing->high > value + 8 ? listing->high : value + 8;
	listing->words++;
	if (number == PTAP_RETURN_ADDRESS) {
		plan->return_word = word;
	} else if (wanted >> number & 1) {
		if (listing->slots == PTAP_PLAN_SLOTS)
			return 0;
		plan->slots[listing->slots].number = (uint8_t)number;
		plan->slots[listing->slots].word = word;
		listing->slots++;
	}
	return 1;
}

/* Take one entry; 0 for one that no simple plan has. */
static PTAP_ALWAYS_INLINE int take_entry(struct ptap_plan *plan, struct listing *listing, uint32_t wanted, uint32_t word)
{
	uint32_t number = ENTRY_REGISTER(word);

	if (number > PTAP_RETURN_ADDRESS)
		return 1; /* as the step does */
	if (listing->listed >> number & 1)
		return 0;
	listing->listed |= 1u << number;
	if (ENTRY_KIND(word) == PTAP_REGISTER_KIND_AT_CFA)
		return take_saved(plan, listing, wanted, number, ENTRY_VALUE(word));
	if (ENTRY_KIND(word) != PTAP_REGISTER_KIND_SAME)
		return ENTRY_KIND(word) == PTAP_REGISTER_KIND_UNDEFINED;
	listing->same |= 1u << number;
	return number != PTAP_STACK_POINTER; /* the CFA otherwise */
}

static PTAP_ALWAYS_INLINE int is_simple(struct ptap_plan *plan, const uint8_t *list, uint32_t wanted)
{
	struct listing listing = { 0 };
	uint32_t lost;

	for (uint32_t index = 0; index < list[0]; index++) {
		if (!take_entry(plan, &listing, wanted, read_u32(list + 4 + 4 * index)))
			return 0;
	}
	if (!(listing.saved >> PTAP_RETURN_ADDRESS & 1) || listing.high - listing.low > MAXIMUM_SPAN ||
	    listing.high - listing.low > 8 * (int32_t)(listing.words + UNREAD_WORDS))
		return 0;
	plan->low = (int16_t)listing.low;
	plan->span = (uint16_t)(listing.high - listing.low);
	plan->return_word = (uint8_t)(plan->return_word - (uint32_t)listing.low / 8);
	plan->slot_count = (uint8_t)listing.slots;
	for (uint32_t index = 0; index < listing.slots; index++)
		plan->slots[index].word = (uint8_t)(plan->slots[index].word - (uint32_t)listing.low / 8);
	lost = listing.listed & ~listing.saved & ~listing.same;
	plan->kept = (PTAP_CALLEE_SAVED | listing.same) & ~lost & ~listing.saved;
	plan->given = ((listing.saved & wanted) | 1u << PTAP_STACK_POINTER) & ~lost;
	plan->carried = ~(PTAP_CALLEE_SAVED | listing.listed | 1u << PTAP_RETURN_ADDRESS | 1u << PTAP_STACK_POINTER);
	return 1;
}

int ptap_make_plan(const uint8_t *table, uint32_t size, int32_t rule, uint32_t unwanted, struct ptap_plan *plan)
{
	const struct ptap_header *header = (const void *)table;
	const struct ptap_rule *record = (const void *)(table + rule);
	uint32_t list = header->lists_offset + 4u * record->list;
	uint32_t wanted = ~unwanted | 1u << PTAP_STACK_POINTER | 1u << PTAP_RETURN_ADDRESS;

	if (list > size - 4 || 4u * table[list] > size - 4 - list)
		return 0;
	plan->rule = rule;
	plan->cfa_register = record->cfa_register;
	plan->cfa_offset = record->cfa_value;
	plan->is_signal = table[list + 1] & PTAP_RULE_FLAG_SIGNAL_FRAME ? 1 : 0;
	plan->frame_flags = PTAP_FRAME_HAS_CFA | (plan->is_signal ? PTAP_FRAME_SIGNAL : 0);
	plan->is_simple = record->cfa_kind == PTAP_CFA_KIND_REGISTER_OFFSET &&
			  record->cfa_register < PTAP_REGISTER_COUNT && is_simple(plan, table + list, wanted);
	return 1;
}

static uint32_t needed_by_expression(const uint8_t *table, int32_t offset)
{
	const uint8_t *expression = table + ((const struct ptap_header *)(const void *)table)->expressions_offset + offset;

	return ptap_expression_registers(expression + 2, read_u16(expression));
}

static uint32_t needed_by_entry(const uint8_t *table, uint32_t word)
{
	switch (ENTRY_KIND(word)) {
	case PTAP_REGISTER_KIND_IN_REGISTER:
		return 1u << ENTRY_VALUE(word);
	case PTAP_REGISTER_KIND_EXPRESSION:
	case PTAP_REGISTER_KIND_VAL_EXPRESSION:
		return needed_by_expression(table, ENTRY_VALUE(word));
	}
	return 0;
}

uint32_t ptap_registers_needed(const uint8_t *table)
{
	const struct ptap_header *header = (const void *)table;
	uint32_t needed = 0;

	for (uint32_t number = 0; number < header->rule_count; number++) {
		uint32_t state = read_u32(table + header->states_offset + 4 * number);
		const struct ptap_rule *rule = (const void *)(table + header->rules_offset + 4 * RECORD(state));
		const uint8_t *list = table + header->lists_offset + 4 * rule->list;

		if (rule->cfa_kind == PTAP_CFA_KIND_EXPRESSION)
			needed |= needed_by_expression(table, rule->cfa_value);
		else if (rule->cfa_kind == PTAP_CFA_KIND_REGISTER_OFFSET || rule->cfa_kind == PTAP_CFA_KIND_DEREF)
			needed |= 1u << rule->cfa_register;
		for (uint32_t index = 0; index < list[0]; index++)
			needed |= needed_by_entry(table, read_u32(list + 4 + 4 * index));
	}
	return needed;
}
