// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The core under libFuzzer: a table is checked, and where the check passes it, looked up and walked by; an expression
 * is run whatever the table is. Everything lies in memory of exactly its size, so that the sanitizers see its ends.
 *
 * An input is a struct fuzz_input, then as many bytes as that tells of stack and of expression, then the table, whose
 * magic, format, machine and size are put right: finding those is no use.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime_c/core/ptap_check.h"
#include "../../runtime_c/core/ptap_lookup.h"
#include "../../runtime_c/host/ptap_host.h"

#define MACHINE_X86_64 62
#define ROOM 32
#define PROBES 64

struct fuzz_input {
	int64_t state[PTAP_HOST_STATE_WIDTH];
	uint64_t bias; /* of the table's module */
	int64_t stack; /* address */
	uint16_t stack_size;
	uint16_t code_size;
	uint16_t is_cut; /* the stack goes on behind what is captured */
	uint16_t unused;
};

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t inputs, sound, walked_frames, evaluated;

static void tell_counts(void)
{
	fprintf(stderr, "fuzz_core: inputs %llu sound %llu frames %llu evaluated %llu\n", (unsigned long long)inputs,
		(unsigned long long)sound, (unsigned long long)walked_frames, (unsigned long long)evaluated);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return atexit(tell_counts);
}

/* Take up to `size` bytes off the input into memory of their own. */
static uint8_t *take(const uint8_t **data, size_t *left, size_t *size)
{
	uint8_t *copy;

	if (*size > *left)
		*size = *left;
	copy = malloc(*size ? *size : 1);
	if (!copy)
		abort();
	memcpy(copy, *data, *size);
	*data += *size;
	*left -= *size;
	return copy;
}

static void put_right(uint8_t *table, size_t size)
{
	struct ptap_header *header = (void *)table;

	header->magic = PTAP_TABLE_MAGIC;
	header->format_version = PTAP_FORMAT_VERSION;
	header->machine = MACHINE_X86_64;
	header->table_size = (uint32_t)size;
}

static void look_up(const uint8_t *table, size_t size, uint64_t pc)
{
	const struct ptap_header *header = (const void *)table;
	int32_t record = ptap_find_rule(table, (uint32_t)size, pc);

	if (record == -1)
		return;
	if (record < 0 || (uint32_t)record < header->rules_offset ||
	    (uint64_t)record + sizeof(struct ptap_rule) > (uint64_t)header->rules_offset + header->rules_size)
		abort();
}

static void use_table(const uint8_t *table, size_t size, struct ptap_host_input *input, const struct fuzz_input *fuzz)
{
	const struct ptap_header *header = (const void *)table;
	uint64_t low = header->text_start, high = header->text_end;
	uint64_t stride = (high - low) / PROBES + 1;
	int64_t mappings[] = {
		(int64_t)(low + fuzz->bias), (int64_t)(high + fuzz->bias), (int64_t)fuzz->bias, 0,
		INT64_MAX - 8192, INT64_MAX - 4096, 0, -1, /* without a table */
		INT64_MAX - 4096, INT64_MAX, 0, -2, /* a return trampoline */
	};
	int64_t *frames = malloc(ROOM * PTAP_HOST_FRAME_WIDTH * sizeof(*frames));
	int64_t *registers = malloc(ROOM * PTAP_REGISTER_COUNT * sizeof(*registers));
	int64_t state[PTAP_HOST_STATE_WIDTH];
	uint64_t count = 0;
	int reason;

	for (int probe = 0; probe < PROBES; probe++)
		look_up(table, size, low + (uint64_t)probe * stride);
	look_up(table, size, low - 1);
	look_up(table, size, high - 1);
	look_up(table, size, high);

	input->mappings = mappings;
	input->mapping_count = 3;
	memcpy(state, fuzz->state, sizeof(state));
	reason = ptap_host_walk(input, state, frames, registers, ROOM, &count);
	if (reason < PTAP_STOP_REASON_END_OF_STACK || reason > PTAP_STOP_REASON_NO_PROGRESS || count > ROOM)
		abort();
	walked_frames += count;
	free(frames);
	free(registers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ptap_host_input input = { 0 };
	struct fuzz_input fuzz;
	size_t stack_size, code_size, table_size;
	uint8_t *stack, *code, *table;
	int64_t value, slice[PTAP_HOST_SLICE_WIDTH];

	if (size < sizeof(fuzz))
		return 0;
	inputs++;
	memcpy(&fuzz, data, sizeof(fuzz));
	data += sizeof(fuzz);
	size -= sizeof(fuzz);
	stack_size = fuzz.stack_size;
	stack = take(&data, &size, &stack_size);
	code_size = fuzz.code_size;
	code = take(&data, &size, &code_size);
	table_size = size & ~(size_t)7;
	table = take(&data, &size, &table_size);

	slice[0] = fuzz.stack;
	slice[1] = 0;
	slice[2] = (int64_t)stack_size;
	slice[3] = fuzz.is_cut & 1;
	input.arena = table;
	input.arena_size = table_size;
	input.content = stack;
	input.content_size = stack_size;
	input.slices = slice;
	input.slice_count = 1;
	if (ptap_host_evaluate(&input, fuzz.state, code, (uint32_t)code_size, fuzz.is_cut & 2 ? &fuzz.stack : NULL,
			       &value) == PTAP_EVALUATED)
		evaluated++;
	if (table_size >= sizeof(struct ptap_header)) {
		put_right(table, table_size);
		if (ptap_check_table(table, table_size) == PTAP_TABLE_SOUND) {
			sound++;
			use_table(table, table_size, &input, &fuzz);
		}
	}
	free(stack);
	free(code);
	free(table);
	return 0;
}
