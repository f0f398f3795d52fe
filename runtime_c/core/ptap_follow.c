// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Instructions count here: a frame takes some sixty. What changes from frame to frame is in locals, so that compilers
 * keep it in registers, and what is seldom needed is in functions that they do not inline.
 */

#include "ptap_follow.h"
#include "ptap_lookup.h"

/* The part of a cursor that is not its registers. */
struct place {
	uint64_t pc; /* that is looked up */
	int64_t previous_cfa;
	uint32_t known;
	uint32_t carried;
	uint32_t exact;
};

/* What the plans of addresses have to have as their generation. */
static inline uint32_t generation_of(const struct ptap_walk *walk)
{
	return walk->renewed ? walk->renewed : walk->generation;
}

/* The plan of the rule of the mapping number `index`, which the next one's may replace; null where there is none. */
static inline const struct ptap_plan *plan_of(const struct ptap_walk *walk, int32_t index, int32_t rule)
{
	const struct ptap_mapping *mapping = &walk->mappings[index];
	uint64_t key = (uint64_t)(uint32_t)index << 32 | (uint32_t)rule;
	struct ptap_plan *plan = &walk->scratch->remembered->rules[PTAP_HASH(key, PTAP_REMEMBERED_RULE_BITS)];

	if (plan->pc == key && plan->generation == walk->generation)
		return plan;
	plan->generation = 0;
	if (!ptap_make_plan(mapping->table, mapping->table_size, rule, walk->unwanted, plan))
		return (void *)0;
	plan->pc = key;
	plan->mapping = index;
	plan->generation = walk->generation;
	return plan;
}

/* Fill `plan`, the one place for `pc`, with what the tables say of that; 0 when they have nothing. */
static __attribute__((__noinline__)) int remember(const struct ptap_walk *walk, uint64_t pc, struct ptap_plan *plan)
{
	int32_t rule, index = ptap_find_mapping(walk->mappings, walk->mapping_count, pc);
	const struct ptap_mapping *mapping = &walk->mappings[index < 0 ? 0 : index];
	const struct ptap_plan *found;

	plan->generation = 0;
	if (index < 0 || mapping->kind != PTAP_MAPPING_MODULE)
		return 0;
	rule = ptap_find_rule_by_page(mapping->table, mapping->table_size, pc - mapping->bias, mapping->pages);
	found = rule < 0 ? (void *)0 : plan_of(walk, index, rule);
	if (!found)
		return 0;
	*plan = *found;
	plan->pc = pc;
	plan->generation = generation_of(walk);
	return 1;
}

static __attribute__((__noinline__)) void put_registers(struct ptap_frame *frame, const struct place *place,
						    const uint64_t *registers)
{
	frame->known = place->known;
	frame->carried = place->carried;
	for (int number = 0; number < PTAP_REGISTER_COUNT; number++)
		frame->registers[number] = registers[number];
}

/* Whether the step would do no more for the frame than read the plan's words, which are from `low` on. */
static inline int is_plain(const struct ptap_plan *plan, const struct place *place, const uint64_t *registers,
			   int64_t cfa, uint64_t low)
{
	return plan->is_simple && !(low & 7) && (place->known >> plan->cfa_register & 1) &&
	       (cfa > place->previous_cfa || plan->is_signal) &&
	       /* A register may have been popped already where the frame was interrupted. */
	       !(place->exact && (int64_t)low < (int64_t)registers[PTAP_STACK_POINTER]);
}

static inline int is_near(const struct ptap_near *near, uint64_t low, uint32_t span)
{
	uint64_t from = low - near->start;

	return from <= near->size && near->size - from >= span;
}

static __attribute__((__noinline__)) int reach(const struct ptap_memory *memory, uint64_t low, uint32_t span)
{
	return memory->near && memory->reach && memory->reach(memory->context, low, span) &&
	       is_near(memory->near, low, span);
}

const struct ptap_plan *ptap_follow(struct ptap_walk *walk, struct ptap_cursor *cursor)
{
	static const struct ptap_near nothing = { .size = 0 };
	const struct ptap_near *const near = walk->memory->near ? walk->memory->near : &nothing;
	struct place place = { .previous_cfa = cursor->previous_cfa, .known = cursor->known, .carried = cursor->carried,
			       .exact = cursor->exact };
	struct ptap_frame *frame = walk->frames + walk->count, *const first = frame, *const last = walk->frames + walk->room;
	uint64_t *const registers = cursor->registers;
	const uint32_t generation = generation_of(walk);
	const struct ptap_plan *plan;

	for (;; frame++) {
		const volatile uint64_t *words;
		uint64_t low, return_address;
		int64_t cfa;

		place.pc = registers[PTAP_RETURN_ADDRESS] - !place.exact;
		plan = ptap_plan_at(walk->scratch->remembered, place.pc);
		/* Compilers would work out its address anew for every part of it. */
		__asm__("" : "+r"(plan));
		if ((plan->pc != place.pc || plan->generation != generation) &&
		    !remember(walk, place.pc, (struct ptap_plan *)plan)) {
			plan = (void *)0;
			break;
		}
		cfa = (int64_t)(registers[plan->cfa_register] + (uint64_t)(int64_t)plan->cfa_offset);
		low = (uint64_t)cfa + (uint64_t)(int64_t)plan->low;
		if (frame == last || !is_plain(plan, &place, registers, cfa, low) ||
		    (!is_near(near, low, plan->span) && !reach(walk->memory, low, plan->span)))
			break;
		words = (const volatile void *)(near->content + (low - near->start));
		return_address = words[plan->return_word];
		if (return_address == near->except)
			break;
		frame->pc = registers[PTAP_RETURN_ADDRESS];
		frame->cfa = cfa;
		frame->mapping = plan->mapping;
		frame->flags = place.exact | plan->frame_flags;
		if (!walk->without_registers)
			put_registers(frame, &place, registers);
		registers[PTAP_STACK_POINTER] = (uint64_t)cfa;
		for (uint32_t index = 0; index < plan->slot_count; index++)
			registers[plan->slots[index].number] = words[plan->slots[index].word];
		registers[PTAP_RETURN_ADDRESS] = return_address;
		place.carried = (place.known | place.carried) & plan->carried;
		place.known = (place.known & plan->kept) | plan->given;
		place.exact = plan->is_signal;
		place.previous_cfa = cfa;
		if (near->noted)
			ptap_note_words(near->noted, low, low + plan->span);
	}
	walk->count += (uint32_t)(frame - first);
	cursor->frames += (uint32_t)(frame - first);
	cursor->known = place.known;
	cursor->carried = place.carried;
	cursor->exact = (uint8_t)place.exact;
	cursor->previous_cfa = place.previous_cfa;
	return plan;
}
