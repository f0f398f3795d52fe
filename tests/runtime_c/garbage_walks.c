// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Walks over garbage, by the million, for a build with sanitizers: random registers and memory over real tables.
 *
 *   garbage_walks SEED WALKS BEYOND {TABLE BIAS}...
 *
 * Each TABLE is a file, each BIAS what its code is moved by; the code of the tables does not overlap, and grows. Every
 * slice of memory is allocated by itself, so that the sanitizer sees its ends; BEYOND bytes more than it has are said to
 * be there, 0 but to see the sanitizer find that. Aborts where a walk does not keep what it promises, and else tells
 * what the walks came to: "reason NUMBER COUNT", and sums.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime_c/core/ptap_check.h"
#include "../../runtime_c/core/ptap_lookup.h"
#include "../../runtime_c/core/ptap_walk.h"

#define ROOM 48
#define TURNS 4 /* walks that go on where the room has ended */
#define SLICES 3
#define LONGEST_WORDS 300
#define TABLES 6
#define COVERED (1 << 16)
#define REASONS (PTAP_STOP_REASON_NO_PROGRESS + 1)

/*
 * Words that one frame may read: its registers and return address by their rules, and what an expression of a real
 * table reads for each of those.
 */
#define READS_A_FRAME (4 * PTAP_REGISTER_COUNT)

struct slice {
	uint64_t address;
	uint64_t size; /* bytes */
	uint8_t *data;
};

struct garbage {
	struct slice slices[SLICES];
	uint32_t count;
	uint64_t reads;
	struct ptap_near near;
};

static struct ptap_mapping mappings[TABLES + 2];
static uint32_t mapping_count;
static uint64_t covered[COVERED];
static uint32_t needed; /* registers, by any of the tables */
static uint64_t beyond;
static uint64_t random_state;
static uint64_t reasons[REASONS], all_frames, all_reads, all_near, most_reads, deepest;

/* xorshift64* (S. Vigna, 2014). */
static uint64_t any(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dull;
}

static uint64_t below(uint64_t limit)
{
	return any() % limit;
}

static void *allocated(size_t size)
{
	void *memory = malloc(size);

	if (!memory)
		exit(2);
	return memory;
}

static void check(int holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "garbage_walks: %s\n", what);
		abort();
	}
}

static enum ptap_read read_slice(void *context, uint64_t address, uint32_t size, uint64_t *value)
{
	struct garbage *garbage = context;

	garbage->reads++;
	check(size >= 1 && size <= 8, "a read of no word's size");
	for (uint32_t index = 0; index < garbage->count; index++) {
		const struct slice *slice = &garbage->slices[index];
		uint64_t from = address - slice->address;

		if (from >= slice->size + beyond || size > slice->size + beyond - from)
			continue;
		*value = 0;
		for (uint32_t byte = 0; byte < size; byte++)
			*value |= (uint64_t)slice->data[from + byte] << 8 * byte;
		return PTAP_READ_DONE;
	}
	return below(8) ? PTAP_READ_NOT_CAPTURED : PTAP_READ_BEYOND_CUT;
}

static uint64_t code_address(void)
{
	const struct ptap_mapping *mapping = &mappings[below(mapping_count)];

	if (below(20))
		return covered[below(COVERED)];
	return mapping->start + below(mapping->end - mapping->start);
}

/* Addresses that the tables have rows of, an equal share each. */
static void find_covered(void)
{
	for (uint32_t found = 0; found < COVERED;) {
		const struct ptap_mapping *mapping = &mappings[found % mapping_count];
		uint64_t address = mapping->start + below(mapping->end - mapping->start);

		if (ptap_find_rule(mapping->table, mapping->table_size, address - mapping->bias) >= 0)
			covered[found++] = address;
	}
}

/* An address in or near one of the slices, mostly at a word. */
static uint64_t stack_address(const struct garbage *garbage)
{
	const struct slice *slice = &garbage->slices[below(garbage->count)];

	return slice->address + 8 * below(slice->size / 8 + 16) - 64 + (below(10) ? 0 : below(8));
}

static uint64_t word(const struct garbage *garbage)
{
	uint64_t kind = below(100);

	if (kind < 75)
		return code_address();
	if (kind < 94)
		return stack_address(garbage);
	return kind < 96 ? below(3) : any();
}

static void fill_slices(struct garbage *garbage)
{
	uint64_t at = below(2) ? 0xffffc90000000000ull + (below(1 << 20) << 14) : 0x7ffc00000000ull + 8 * below(1 << 24);

	garbage->reads = 0;
	garbage->count = (uint32_t)(1 + below(SLICES));
	for (uint32_t index = 0; index < garbage->count; index++) {
		struct slice *slice = &garbage->slices[index];

		slice->size = 8 * (1 + below(LONGEST_WORDS));
		slice->data = allocated(slice->size);
		slice->address = at;
		at += slice->size + 8 * below(64);
	}
	for (uint32_t index = 0; index < garbage->count; index++) {
		const struct slice *slice = &garbage->slices[index];

		for (uint64_t place = 0; place < slice->size; place += 8) {
			uint64_t value = word(garbage);

			/* Frame pointers that were saved lead on. */
			if (!below(8))
				value = slice->address + place + 8 * below(32);
			memcpy(slice->data + place, &value, sizeof(value));
		}
	}
}

static void fill_cursor(const struct garbage *garbage, struct ptap_cursor *cursor)
{
	for (int number = 0; number < PTAP_RETURN_ADDRESS; number++)
		cursor->registers[number] = below(3) ? stack_address(garbage) : word(garbage);
	if (below(4)) {
		cursor->registers[PTAP_STACK_POINTER] = garbage->slices[0].address + 8 * below(16);
		cursor->registers[PTAP_FRAME_POINTER] = cursor->registers[PTAP_STACK_POINTER] + 8 * below(16);
	}
	cursor->registers[PTAP_RETURN_ADDRESS] = below(16) ? code_address() : any();
	cursor->known = (1u << PTAP_REGISTER_COUNT) - 1;
	if (!below(4))
		cursor->known = (uint32_t)below(1u << PTAP_REGISTER_COUNT) | 1u << PTAP_RETURN_ADDRESS;
	cursor->carried = below(2) ? 0 : (uint32_t)below(1u << PTAP_REGISTER_COUNT);
	cursor->previous_cfa = below(8) ? PTAP_NO_PREVIOUS_CFA : (int64_t)word(garbage);
	cursor->detail = 0;
	cursor->frames = (uint32_t)below(2);
	cursor->exact = (uint8_t)below(2);
	cursor->on_demand = (uint8_t)!below(8);
}

static void make_near(struct garbage *garbage, uint32_t index)
{
	garbage->near.start = garbage->slices[index].address;
	garbage->near.size = garbage->slices[index].size;
	garbage->near.content = garbage->slices[index].data;
}

/* The slice that holds all of `span` bytes, or -1. */
static int slice_of(const struct garbage *garbage, uint64_t low, uint64_t span)
{
	for (uint32_t index = 0; index < garbage->count; index++) {
		uint64_t from = low - garbage->slices[index].address;

		if (from < garbage->slices[index].size && span <= garbage->slices[index].size - from)
			return (int)index;
	}
	return -1;
}

static int reach(void *context, uint64_t low, uint32_t span)
{
	struct garbage *garbage = context;
	int index = slice_of(garbage, low, span);

	if (index < 0)
		return 0;
	make_near(garbage, (uint32_t)index);
	return 1;
}

/* What was noted is memory that there is. */
static void check_runs(const struct garbage *garbage)
{
	const struct ptap_noted *noted = garbage->near.noted;

	check(noted->count <= noted->room, "more runs than room");
	for (uint32_t index = 0; index < noted->count; index++) {
		const struct ptap_run *run = &noted->runs[index];

		check(run->begin < run->end && run->begin % 8 == 0 && run->end % 8 == 0, "no run");
		check(slice_of(garbage, run->begin, 8) >= 0 && slice_of(garbage, run->end - 8, 8) >= 0,
		      "a run outside of the memory");
	}
	all_near += noted->count > 0;
}

static int walk_once(struct ptap_walk *walk, struct ptap_cursor *cursor, struct garbage *garbage)
{
	uint64_t before = garbage->reads;
	int reason = ptap_walk(walk, cursor);

	check(reason >= PTAP_STOP_REASON_END_OF_STACK && reason < REASONS, "a walk without a reason");
	check(walk->count <= walk->room, "more frames than room");
	check(reason != PTAP_STOP_REASON_TOO_DEEP || walk->count == walk->room, "too deep with room left");
	check(garbage->reads - before <= (uint64_t)READS_A_FRAME * (walk->count + 1), "more reads than frames need");
	for (uint32_t index = 0; index < walk->count; index++)
		check(walk->frames[index].mapping < (int32_t)walk->mapping_count, "a frame of no mapping");
	if (garbage->reads - before > most_reads)
		most_reads = garbage->reads - before;
	reasons[reason]++;
	all_frames += walk->count;
	return reason;
}

/* As the module and the offline walk have it: plans are remembered or not, of all registers or of those needed. */
static void choose_memory(struct ptap_walk *walk)
{
	static struct ptap_remembered remembered;

	walk->scratch->remembered = below(3) ? &remembered : NULL;
	walk->generation = (uint32_t)below(3);
	walk->unwanted = walk->generation == 2 ? ~needed : 0;
}

static void walk_garbage(struct ptap_scratch *scratch)
{
	struct garbage garbage = { .reads = 0 };
	struct ptap_cursor cursor;
	struct ptap_noted noted = { .room = (uint32_t)(1 + below(32)) };
	struct ptap_memory memory = { .read = read_slice, .context = &garbage };
	struct ptap_walk walk = { .mappings = mappings, .mapping_count = mapping_count, .memory = &memory,
				  .room = (uint32_t)(1 + below(below(4) ? ROOM : 4)), .scratch = scratch };
	uint64_t depth = 0;

	fill_slices(&garbage);
	fill_cursor(&garbage, &cursor);
	choose_memory(&walk);
	walk.frames = allocated(walk.room * sizeof(*walk.frames));
	walk.without_registers = (uint32_t)below(2);
	noted.runs = allocated(noted.room * sizeof(*noted.runs));
	garbage.near.noted = &noted;
	garbage.near.except = below(2) ? word(&garbage) : UINT64_MAX;
	if (below(3)) {
		memory.near = &garbage.near;
		make_near(&garbage, 0);
		memory.reach = below(2) ? reach : NULL;
	}
	for (int turn = 0; turn < TURNS; turn++) {
		int reason = walk_once(&walk, &cursor, &garbage);

		depth += walk.count;
		if (reason != PTAP_STOP_REASON_TOO_DEEP)
			break;
	}
	if (depth > deepest)
		deepest = depth;
	all_reads += garbage.reads;
	check_runs(&garbage);
	free(noted.runs);
	free(walk.frames);
	for (uint32_t index = 0; index < garbage.count; index++)
		free(garbage.slices[index].data);
}

/* Behind everything else: code without a table, and what return probes put in place of return addresses. */
static void add_others(void)
{
	uint64_t end = mappings[mapping_count - 1].end;

	for (uint32_t kind = PTAP_MAPPING_NO_TABLE; kind <= PTAP_MAPPING_TRAMPOLINE; kind++, end += 8192)
		mappings[mapping_count++] = (struct ptap_mapping){ .start = end, .end = end + 4096, .kind = kind };
}

static void take_table(const char *path, uint64_t bias)
{
	struct ptap_mapping *mapping = &mappings[mapping_count];
	FILE *file = fopen(path, "rb");
	struct ptap_header header;
	uint8_t *table;

	if (!file || mapping_count == TABLES || fread(&header, sizeof(header), 1, file) != 1)
		exit(2);
	table = allocated(header.table_size);
	rewind(file);
	if (fread(table, header.table_size, 1, file) != 1)
		exit(2);
	fclose(file);
	check(ptap_check_table(table, header.table_size) == PTAP_TABLE_SOUND, "a damaged table");
	*mapping = (struct ptap_mapping){ .start = header.text_start + bias, .end = header.text_end + bias, .bias = bias,
					  .table = table, .table_size = header.table_size };
	check(!mapping_count || mapping[-1].end <= mapping->start, "tables that overlap");
	needed |= ptap_registers_needed(table);
	mapping_count++;
}

int main(int argc, char **argv)
{
	static struct ptap_scratch scratch;
	uint64_t walks;

	if (argc < 6)
		return 2;
	random_state = strtoull(argv[1], NULL, 0) * 2 + 1;
	walks = strtoull(argv[2], NULL, 0);
	beyond = strtoull(argv[3], NULL, 0);
	for (int index = 4; index + 1 < argc; index += 2)
		take_table(argv[index], strtoull(argv[index + 1], NULL, 0));
	find_covered();
	add_others();
	for (uint64_t number = 0; number < walks; number++)
		walk_garbage(&scratch);
	for (int reason = 0; reason < REASONS; reason++)
		printf("reason %d %llu\n", reason, (unsigned long long)reasons[reason]);
	printf("frames %llu\nreads %llu\nnear %llu\nmost_reads %llu\ndeepest %llu\n", (unsigned long long)all_frames,
	       (unsigned long long)all_reads, (unsigned long long)all_near, (unsigned long long)most_reads,
	       (unsigned long long)deepest);
	while (mapping_count--)
		free((void *)(uintptr_t)mappings[mapping_count].table); /* null for the last two */
	return 0;
}
