// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Turns the walk's flat arrays into what the core takes, and back. One thread at a time. */

#include "ptap_host.h"

#include <string.h>

/* Columns of the state array, after the registers, for which it has room as in the widest architecture. */
enum { KNOWN = 33, EXACT, PREVIOUS_CFA, DETAIL, ON_DEMAND, FRAMES, CARRIED };

static struct ptap_mapping mappings[PTAP_HOST_MAPPINGS_MAXIMUM];
static struct ptap_frame walked[PTAP_HOST_FRAMES_MAXIMUM];
static struct ptap_remembered remembered;
static struct ptap_scratch scratch = { .remembered = &remembered };

/* Of walks over mappings that nobody has numbered: each has one of its own, above the numbers of those that are. */
static uint32_t next_generation = UINT32_MAX;

/* As unwind.memory.read_integer: the first slice that holds it all. */
static enum ptap_read read_slices(void *context, uint64_t address, uint32_t size, uint64_t *value)
{
	const struct ptap_host_input *input = context;
	enum ptap_read status = PTAP_READ_NOT_CAPTURED;

	for (uint64_t index = 0; index < input->slice_count; index++) {
		const int64_t *slice = input->slices + index * PTAP_HOST_SLICE_WIDTH;
		int64_t last = (int64_t)((uint64_t)slice[0] + (uint64_t)slice[2] - size);
		uint64_t begin = (uint64_t)slice[1] + (address - (uint64_t)slice[0]);

		if ((int64_t)address < slice[0])
			continue;
		if ((int64_t)address <= last && begin + size <= input->content_size) {
			*value = 0;
			for (uint32_t byte = 0; byte < size; byte++)
				*value |= (uint64_t)input->content[begin + byte] << (8 * byte);
			return PTAP_READ_DONE;
		}
		if (slice[3])
			status = PTAP_READ_BEYOND_CUT;
	}
	return status;
}

static int take_mappings(const struct ptap_host_input *input)
{
	if (input->mapping_count > PTAP_HOST_MAPPINGS_MAXIMUM)
		return -1;
	for (uint64_t index = 0; index < input->mapping_count; index++) {
		const int64_t *row = input->mappings + index * PTAP_HOST_MAPPING_WIDTH;
		struct ptap_mapping *mapping = &mappings[index];
		struct ptap_header header;

		*mapping = (struct ptap_mapping){ .start = (uint64_t)row[0], .end = (uint64_t)row[1],
						  .bias = (uint64_t)row[2] };
		if (row[3] < 0) {
			mapping->kind = row[3] == -2 ? PTAP_MAPPING_TRAMPOLINE : PTAP_MAPPING_NO_TABLE;
			continue;
		}
		if ((uint64_t)row[3] + sizeof(header) > input->arena_size)
			return -1;
		mapping->table = input->arena + row[3];
		memcpy(&header, mapping->table, sizeof(header));
		mapping->table_size = header.table_size;
		if ((uint64_t)row[3] + header.table_size > input->arena_size)
			return -1;
	}
	return 0;
}

static void take_state(const int64_t *state, struct ptap_cursor *cursor)
{
	for (int number = 0; number < PTAP_REGISTER_COUNT; number++)
		cursor->registers[number] = (uint64_t)state[number];
	cursor->known = (uint32_t)state[KNOWN];
	cursor->carried = (uint32_t)state[CARRIED];
	cursor->previous_cfa = state[PREVIOUS_CFA];
	cursor->detail = (uint64_t)state[DETAIL];
	cursor->frames = (uint32_t)state[FRAMES];
	cursor->exact = state[EXACT] != 0;
	cursor->on_demand = state[ON_DEMAND] != 0;
}

static void give_state(const struct ptap_cursor *cursor, int64_t *state)
{
	for (int number = 0; number < PTAP_REGISTER_COUNT; number++)
		state[number] = (int64_t)cursor->registers[number];
	state[KNOWN] = cursor->known;
	state[CARRIED] = cursor->carried;
	state[PREVIOUS_CFA] = cursor->previous_cfa;
	state[DETAIL] = (int64_t)cursor->detail;
	state[FRAMES] = cursor->frames;
	state[EXACT] = cursor->exact;
}

static void give_frames(uint32_t count, int64_t *frames, int64_t *frame_registers)
{
	for (uint32_t index = 0; index < count; index++) {
		const struct ptap_frame *frame = &walked[index];
		int64_t row[PTAP_HOST_FRAME_WIDTH] = { (int64_t)frame->pc, frame->cfa,	 frame->mapping,
						       frame->flags,	   frame->known, frame->carried };

		memcpy(frames + index * PTAP_HOST_FRAME_WIDTH, row, sizeof(row));
		memcpy(frame_registers + index * PTAP_REGISTER_COUNT, frame->registers, sizeof(frame->registers));
	}
}

/* What of the first slice, where it holds all of a word first, lies as the walk reads it. */
static struct ptap_near near_memory(const struct ptap_host_input *input)
{
	const int64_t *slice = input->slices;
	struct ptap_near near = { .size = 0 };
	uint64_t begin, size;

	if (!input->slice_count || slice[2] < 0)
		return near;
	begin = (uint64_t)slice[1];
	size = (uint64_t)slice[2];
	if (begin > input->content_size || size > input->content_size - begin || slice[0] % 8 ||
	    (uintptr_t)(input->content + begin) % 8 || (slice[0] >= 0 && slice[2] > INT64_MAX - slice[0]))
		return near;
	near.start = (uint64_t)slice[0];
	near.size = size;
	near.content = input->content + begin;
	near.except = UINT64_MAX;
	return near;
}

/* The registers that the tables of all mappings need. */
static uint32_t needed_registers(uint64_t mapping_count)
{
	uint32_t needed = 0;

	for (uint64_t index = 0; index < mapping_count; index++) {
		if (mappings[index].kind == PTAP_MAPPING_MODULE)
			needed |= ptap_registers_needed(mappings[index].table);
	}
	return needed;
}

int ptap_host_walk(const struct ptap_host_input *input, int64_t *state, int64_t *frames, int64_t *frame_registers,
		   uint64_t room, uint64_t *count)
{
	struct ptap_near near = near_memory(input);
	struct ptap_memory memory = { .read = read_slices, .context = (void *)input, .near = &near };
	struct ptap_walk walk = { .mappings = mappings, .mapping_count = (uint32_t)input->mapping_count, .memory = &memory,
				  .frames = walked, .room = (uint32_t)room, .scratch = &scratch };
	struct ptap_cursor cursor;
	int reason;

	if (room > PTAP_HOST_FRAMES_MAXIMUM || take_mappings(input) != 0)
		return -1;
	walk.generation = input->generation ? (uint32_t)input->generation : next_generation--;
	if (input->only_needed)
		walk.unwanted = ~needed_registers(input->mapping_count);
	take_state(state, &cursor);
	reason = ptap_walk(&walk, &cursor);
	give_state(&cursor, state);
	give_frames(walk.count, frames, frame_registers);
	*count = walk.count;
	return reason;
}

int ptap_host_evaluate(const struct ptap_host_input *input, const int64_t *state, const uint8_t *code, uint32_t length,
		       const int64_t *initial, int64_t *value)
{
	struct ptap_memory memory = { .read = read_slices, .context = (void *)input };
	struct ptap_cursor cursor;
	struct ptap_expression expression = { .code = code, .length = length, .registers = cursor.registers,
					      .known = (uint32_t)state[KNOWN], .memory = &memory, .stack = scratch.stack };

	take_state(state, &cursor);
	return (int)ptap_evaluate(&expression, initial, value);
}
