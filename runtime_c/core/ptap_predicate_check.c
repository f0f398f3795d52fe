// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What makes a predicate's program safe to run. */

#include "ptap_predicate.h"

/* Verdicts on the stack after `instruction`, where there were `depth`; -1 where it cannot be run. */
static int stack_after(const struct ptap_predicate_instruction *instruction, int depth)
{
	switch (instruction->operation) {
	case PTAP_OPERATION_AND:
	case PTAP_OPERATION_OR:
		return depth < 2 ? -1 : depth - 1;
	case PTAP_OPERATION_NOT:
		return depth < 1 ? -1 : depth;
	default:
		return depth == PTAP_PREDICATE_DEPTH ? -1 : depth + 1;
	}
}

static int has_operand(const struct ptap_predicate_program *program,
		       const struct ptap_predicate_instruction *instruction)
{
	switch (instruction->operation) {
	case PTAP_OPERATION_CALLER:
	case PTAP_OPERATION_DIRECT_CALLER:
		return instruction->operand < program->set_count;
	case PTAP_OPERATION_IN_FILE:
		return instruction->operand >= 1 && instruction->operand <= program->file_count;
	case PTAP_OPERATION_ELSEWHERE:
		return instruction->operand >= PTAP_SIDE_KERNEL && instruction->operand <= PTAP_SIDE_BOTH;
	case PTAP_OPERATION_COMPARE:
		return instruction->operand >= PTAP_MEASURE_DEPTH && instruction->operand <= PTAP_MEASURE_TID &&
		       instruction->comparison >= PTAP_COMPARISON_EQUAL &&
		       instruction->comparison <= PTAP_COMPARISON_GREATER_OR_EQUAL;
	case PTAP_OPERATION_COMM:
	case PTAP_OPERATION_UNDECIDABLE:
	case PTAP_OPERATION_AND:
	case PTAP_OPERATION_OR:
	case PTAP_OPERATION_NOT:
		return 1;
	}
	return 0;
}

static enum ptap_predicate_fault check_instructions(const struct ptap_predicate *predicate)
{
	int depth = 0;

	for (uint32_t index = 0; index < predicate->program->instruction_count; index++) {
		if (!has_operand(predicate->program, &predicate->instructions[index]))
			return PTAP_PREDICATE_OPERATION;
		depth = stack_after(&predicate->instructions[index], depth);
		if (depth < 0)
			return PTAP_PREDICATE_STACK;
	}
	return depth == 1 ? PTAP_PREDICATE_SOUND : PTAP_PREDICATE_STACK;
}

static enum ptap_predicate_fault check_set(const struct ptap_predicate *predicate, const struct ptap_predicate_set *set)
{
	const struct ptap_predicate_program *program = predicate->program;
	uint64_t before = 0;

	if (set->file > program->file_count || set->first > program->range_count ||
	    set->count > program->range_count - set->first)
		return PTAP_PREDICATE_SET;
	for (uint32_t index = 0; index < set->count; index++) {
		const struct ptap_predicate_range *range = &predicate->ranges[set->first + index];

		if (range->start >= range->end || (index && range->start <= before))
			return PTAP_PREDICATE_RANGE;
		before = range->end;
	}
	return PTAP_PREDICATE_SOUND;
}

enum ptap_predicate_fault ptap_predicate_check(const void *program, uint64_t size, struct ptap_predicate *predicate)
{
	const struct ptap_predicate_program *header = program;
	enum ptap_predicate_fault fault;

	/* More sets than instructions that can name them are of no use. */
	if (size < sizeof(*header) || header->instruction_count > PTAP_PREDICATE_INSTRUCTIONS ||
	    header->file_count > PTAP_PREDICATE_FILES || header->set_count > PTAP_PREDICATE_INSTRUCTIONS ||
	    header->range_count > PTAP_PREDICATE_RANGES)
		return PTAP_PREDICATE_SIZE;
	if (size != sizeof(*header) + header->file_count * (uint64_t)sizeof(*predicate->files) +
			    header->instruction_count * (uint64_t)sizeof(*predicate->instructions) +
			    header->set_count * (uint64_t)sizeof(*predicate->sets) +
			    header->range_count * (uint64_t)sizeof(*predicate->ranges))
		return PTAP_PREDICATE_SIZE;
	predicate->program = header;
	predicate->files = (const void *)(header + 1);
	predicate->instructions = (const void *)(predicate->files + header->file_count);
	predicate->sets = (const void *)(predicate->instructions + header->instruction_count);
	predicate->ranges = (const void *)(predicate->sets + header->set_count);
	for (uint32_t index = 0; index < header->set_count; index++) {
		fault = check_set(predicate, &predicate->sets[index]);
		if (fault != PTAP_PREDICATE_SOUND)
			return fault;
	}
	return check_instructions(predicate);
}
