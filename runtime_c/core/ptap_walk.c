// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The walk: which module's table holds for a frame, and when a stack ends. */

#include "ptap_walk.h"

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

static void put_registers(struct ptap_frame *frame, const struct ptap_cursor *cursor)
{
	for (int number = 0; number < PTAP_REGISTER_COUNT; number++)
		frame->registers[number] = cursor->registers[number];
}

static void put_frame(struct ptap_frame *frame, const struct ptap_cursor *cursor, int32_t mapping)
{
	frame->pc = cursor->registers[PTAP_RETURN_ADDRESS];
	frame->cfa = 0;
	frame->mapping = mapping;
	frame->flags = cursor->exact ? PTAP_FRAME_EXACT : 0;
	frame->known = cursor->known;
	frame->carried = cursor->carried;
}

/* One frame from where `cursor` is; PTAP_GO_ON, or why the walk ends. */
static int walk_frame(struct ptap_walk *walk, struct ptap_cursor *cursor)
{
	uint64_t pc = cursor->registers[PTAP_RETURN_ADDRESS];
	uint64_t before = cursor->exact ? 0 : 1;
	const struct ptap_mapping *mapping;
	struct ptap_frame *frame;
	struct ptap_step step;
	int32_t index;
	int reason;

	cursor->detail = pc;
	/* A null return address marks the outermost frame where the start code pushed one. */
	if (pc == 0 && cursor->frames > 0 && !cursor->exact)
		return PTAP_STOP_REASON_END_OF_STACK;
	index = find_mapping(walk->mappings, walk->mapping_count, pc - before);
	if (index < 0 && cursor->frames > 0)
		return PTAP_STOP_REASON_NO_MAPPING;
	if (walk->count >= walk->room)
		return PTAP_STOP_REASON_TOO_DEEP;
	frame = &walk->frames[walk->count];
	put_frame(frame, cursor, index);
	if (!walk->without_registers)
		put_registers(frame, cursor);
	mapping = &walk->mappings[index < 0 ? 0 : index];
	if (index >= 0 && mapping->kind == PTAP_MAPPING_TRAMPOLINE)
		return PTAP_STOP_REASON_RETURN_TRAMPOLINE;
	walk->count++;
	if (index < 0 || mapping->kind != PTAP_MAPPING_MODULE) {
		cursor->frames++;
		return index < 0 ? PTAP_STOP_REASON_NO_MAPPING : PTAP_STOP_REASON_NO_TABLE;
	}
	reason = ptap_step(mapping->table, mapping->table_size, pc - mapping->bias - before, walk->memory, cursor, &step,
			   walk->scratch);
	frame->flags |= step.flags;
	frame->cfa = step.cfa;
	if (reason == PTAP_STOP_REASON_NO_ROW || reason == PTAP_STOP_REASON_OVERFLOW ||
	    (reason == PTAP_STOP_REASON_END_OF_STACK && !(step.flags & PTAP_FRAME_HAS_CFA)))
		cursor->frames++;
	return reason;
}

int ptap_walk(struct ptap_walk *walk, struct ptap_cursor *cursor)
{
	int reason;

	walk->count = 0;
	/* Each turn fills a frame or ends, so the room bounds them. */
	do {
		reason = walk_frame(walk, cursor);
	} while (reason == PTAP_GO_ON);
	return reason;
}
