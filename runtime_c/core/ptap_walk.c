// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The walk: which module's table holds for a frame, and when a stack ends. */

#include "ptap_walk.h"
#include "ptap_lookup.h"

/* The index of the mapping that holds `address`, -1 for none. */
static int32_t find_mapping(const struct ptap_mapping *mappings, uint32_t count, uint64_t address)
{
	uint32_t low = 0, high = count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (mappings[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0 || address >= mappings[low - 1].end)
		return -1;
	return (int32_t)low - 1;
}

/* Where the frame's pc is looked up: a return address may be the first one behind its function. */
static uint64_t looked_up(const struct ptap_cursor *cursor)
{
	return cursor->registers[PTAP_RETURN_ADDRESS] - (cursor->exact ? 0 : 1);
}

/* All of the frame but its CFA. */
static inline struct ptap_frame *put_frame(const struct ptap_walk *walk, const struct ptap_cursor *cursor,
					   int32_t mapping, uint32_t flags)
{
	struct ptap_frame *frame = &walk->frames[walk->count];

	frame->pc = cursor->registers[PTAP_RETURN_ADDRESS];
	frame->mapping = mapping;
	frame->flags = flags | (cursor->exact ? PTAP_FRAME_EXACT : 0);
	if (walk->without_registers)
		return frame;
	frame->known = cursor->known;
	frame->carried = cursor->carried;
	for (int number = 0; number < PTAP_REGISTER_COUNT; number++)
		frame->registers[number] = cursor->registers[number];
	return frame;
}

/*
 * Make the cursor's frame its caller, by a simple plan. 0 where that needs more than words which are near, and where the
 * step has something to say of it: then nothing was changed.
 */
static inline int follow(struct ptap_walk *walk, struct ptap_cursor *cursor, const struct ptap_plan *plan)
{
	const struct ptap_near *near = walk->memory->near;
	uint64_t *registers = cursor->registers;
	int64_t cfa = (int64_t)(registers[plan->cfa_register] + (uint64_t)(int64_t)plan->cfa_offset);
	uint64_t low = (uint64_t)cfa + (uint64_t)(int64_t)plan->low;
	uint64_t from = low - near->start, return_address;
	const volatile uint64_t *words;

	if (!plan->is_simple || from > near->size || near->size - from < plan->span || low % 8 ||
	    !(cursor->known >> plan->cfa_register & 1) || walk->count >= walk->room ||
	    (cfa <= cursor->previous_cfa && !plan->is_signal) ||
	    /* A register may have been popped already where the frame was interrupted. */
	    (cursor->exact && (int64_t)low < (int64_t)registers[PTAP_STACK_POINTER]))
		return 0;
	words = (const volatile void *)(near->content + from);
	return_address = words[plan->return_word];
	if (return_address == near->except)
		return 0;
	put_frame(walk, cursor, plan->mapping, PTAP_FRAME_HAS_CFA | (plan->is_signal ? PTAP_FRAME_SIGNAL : 0))->cfa = cfa;
	walk->count++;
	registers[PTAP_STACK_POINTER] = (uint64_t)cfa;
	for (uint32_t index = 0; index < plan->slot_count; index++)
		registers[plan->slots[index].number] = words[plan->slots[index].word];
	registers[PTAP_RETURN_ADDRESS] = return_address;
	cursor->carried = (cursor->known | cursor->carried) & plan->carried;
	cursor->known = (cursor->known & plan->kept) | plan->given;
	cursor->exact = plan->is_signal ? 1 : 0;
	cursor->previous_cfa = cfa;
	cursor->frames++;
	if (near->noted)
		ptap_note_words(near->noted, low, low + plan->span);
	return 1;
}

/* Fill `plan`, the place of the cursor's pc, with what the tables say of it; 0 when they have nothing. */
static int remember(const struct ptap_walk *walk, const struct ptap_cursor *cursor, struct ptap_plan *plan)
{
	uint64_t pc = looked_up(cursor);
	int32_t rule, index = find_mapping(walk->mappings, walk->mapping_count, pc);
	const struct ptap_mapping *mapping = &walk->mappings[index < 0 ? 0 : index];

	plan->generation = 0;
	if (index < 0 || mapping->kind != PTAP_MAPPING_MODULE)
		return 0;
	rule = ptap_find_rule(mapping->table, mapping->table_size, pc - mapping->bias);
	if (rule < 0 || !ptap_make_plan(mapping->table, mapping->table_size, rule, walk->unwanted, plan))
		return 0;
	plan->pc = pc;
	plan->mapping = index;
	plan->generation = walk->generation;
	return 1;
}

/* The plan of the cursor's pc, or null where nothing is remembered or there is none. */
static inline const struct ptap_plan *plan_of(const struct ptap_walk *walk, const struct ptap_cursor *cursor,
					      struct ptap_remembered *remembered)
{
	uint64_t pc = looked_up(cursor);
	struct ptap_plan *plan;

	if (!remembered)
		return (void *)0;
	plan = ptap_plan_at(remembered, pc);
	if (plan->pc == pc && plan->generation == walk->generation)
		return plan;
	return remember(walk, cursor, plan) ? plan : (void *)0;
}

/* The frame by the rule that the plan names, or else by what the tables say; PTAP_GO_ON, or why the walk ends. */
static int walk_frame(struct ptap_walk *walk, struct ptap_cursor *cursor, const struct ptap_plan *plan)
{
	uint64_t pc = cursor->registers[PTAP_RETURN_ADDRESS];
	const struct ptap_mapping *mapping;
	struct ptap_frame *frame;
	struct ptap_step step;
	int32_t index, rule;
	int reason;

	cursor->detail = pc;
	/* A null return address marks the outermost frame where the start code pushed one. */
	if (pc == 0 && cursor->frames > 0 && !cursor->exact)
		return PTAP_STOP_REASON_END_OF_STACK;
	index = plan ? plan->mapping : find_mapping(walk->mappings, walk->mapping_count, looked_up(cursor));
	if (index < 0 && cursor->frames > 0)
		return PTAP_STOP_REASON_NO_MAPPING;
	if (walk->count >= walk->room)
		return PTAP_STOP_REASON_TOO_DEEP;
	frame = put_frame(walk, cursor, index, 0);
	frame->cfa = 0;
	mapping = &walk->mappings[index < 0 ? 0 : index];
	if (index >= 0 && mapping->kind == PTAP_MAPPING_TRAMPOLINE)
		return PTAP_STOP_REASON_RETURN_TRAMPOLINE;
	walk->count++;
	if (index < 0 || mapping->kind != PTAP_MAPPING_MODULE) {
		cursor->frames++;
		return index < 0 ? PTAP_STOP_REASON_NO_MAPPING : PTAP_STOP_REASON_NO_TABLE;
	}
	rule = plan ? plan->rule :
		      ptap_find_rule(mapping->table, mapping->table_size, looked_up(cursor) - mapping->bias);
	reason = ptap_step(mapping->table, mapping->table_size, rule, walk->memory, cursor, &step, walk->scratch);
	frame->flags |= step.flags;
	frame->cfa = step.cfa;
	if (reason == PTAP_STOP_REASON_NO_ROW || reason == PTAP_STOP_REASON_OVERFLOW ||
	    (reason == PTAP_STOP_REASON_END_OF_STACK && !(step.flags & PTAP_FRAME_HAS_CFA)))
		cursor->frames++;
	return reason;
}

int ptap_walk(struct ptap_walk *walk, struct ptap_cursor *cursor)
{
	struct ptap_remembered *remembered = walk->generation && walk->memory->near ? walk->scratch->remembered : (void *)0;
	const struct ptap_plan *plan;
	int reason;

	walk->count = 0;
	/* Each turn fills a frame or ends, so the room bounds them. */
	do {
		plan = plan_of(walk, cursor, remembered);
		if (plan && follow(walk, cursor, plan))
			reason = PTAP_GO_ON;
		else
			reason = walk_frame(walk, cursor, plan);
	} while (reason == PTAP_GO_ON);
	return reason;
}
