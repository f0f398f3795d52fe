// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The walk: which module's table holds for a frame, and when a stack ends. */

#include "ptap_follow.h"
#include "ptap_lookup.h"

int32_t ptap_find_mapping(const struct ptap_mapping *mappings, uint32_t count, uint64_t address)
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

static struct ptap_frame *put_frame(const struct ptap_walk *walk, const struct ptap_cursor *cursor, int32_t mapping)
{
	struct ptap_frame *frame = &walk->frames[walk->count];

	frame->pc = cursor->registers[PTAP_RETURN_ADDRESS];
	frame->cfa = 0;
	frame->mapping = mapping;
	frame->flags = cursor->exact ? PTAP_FRAME_EXACT : 0;
	if (walk->without_registers)
		return frame;
	frame->known = cursor->known;
	frame->carried = cursor->carried;
	for (int number = 0; number < PTAP_REGISTER_COUNT; number++)
		frame->registers[number] = cursor->registers[number];
	return frame;
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
	index = plan ? plan->mapping : ptap_find_mapping(walk->mappings, walk->mapping_count, looked_up(cursor));
	if (index < 0 && cursor->frames > 0)
		return PTAP_STOP_REASON_NO_MAPPING;
	if (walk->count >= walk->room)
		return PTAP_STOP_REASON_TOO_DEEP;
	frame = put_frame(walk, cursor, index);
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

/*
 * Whether the caller's address was replaced, and put back by nobody. The word of its frame was read by the step then:
 * what is near leaves it out. Code before the trampoline, where it would be looked up, has nothing to do with it.
 */
static int is_trampoline(const struct ptap_walk *walk, const struct ptap_cursor *cursor)
{
	return walk->trampoline && !cursor->exact && cursor->registers[PTAP_RETURN_ADDRESS] == walk->trampoline;
}

int ptap_walk(struct ptap_walk *walk, struct ptap_cursor *cursor)
{
	int may_follow = ptap_may_follow(walk), reason;

	walk->count = 0;
	/* Each turn fills a frame or ends, so the room bounds them. */
	do {
		reason = walk_frame(walk, cursor, may_follow ? ptap_follow(walk, cursor) : (void *)0);
	} while (reason == PTAP_GO_ON && !is_trampoline(walk, cursor));
	if (reason != PTAP_GO_ON)
		return reason;
	cursor->detail = cursor->registers[PTAP_RETURN_ADDRESS];
	return PTAP_STOP_REASON_RETURN_TRAMPOLINE;
}
