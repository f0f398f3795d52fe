// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Running a predicate's program, which ptap_predicate_check has passed: nothing is checked again. */

#include "ptap_predicate.h"

/* Values of the three-valued logic, as numbers in which `and` is the least and `or` the greatest. */
static int rank(enum ptap_verdict verdict)
{
	return verdict == PTAP_VERDICT_FALSE ? 0 : verdict == PTAP_VERDICT_UNKNOWN ? 1 : 2;
}

static enum ptap_verdict verdict_of(int holds)
{
	return holds ? PTAP_VERDICT_TRUE : PTAP_VERDICT_FALSE;
}

static int is_in_set(const struct ptap_predicate *predicate, const struct ptap_predicate_set *set, uint64_t address)
{
	const struct ptap_predicate_range *ranges = predicate->ranges + set->first;
	uint32_t low = 0, high = set->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (ranges[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 && address < ranges[low - 1].end;
}

/* Whether a frame lies in the set's functions. */
static enum ptap_verdict in_set(const struct ptap_predicate *predicate, const struct ptap_predicate_set *set,
				const struct ptap_predicate_frame *frame)
{
	if (frame->file == PTAP_FILE_UNKNOWN)
		return PTAP_VERDICT_UNKNOWN;
	return verdict_of(frame->file == set->file && is_in_set(predicate, set, frame->address));
}

/* The frames that a set may speak of, [*begin, *end); which side they are on. */
static enum ptap_side frames_of(const struct ptap_predicate_set *set, const struct ptap_predicate_input *input,
				uint32_t *begin, uint32_t *end)
{
	*begin = set->file == PTAP_FILE_KERNEL ? 0 : input->kernel_count;
	*end = set->file == PTAP_FILE_KERNEL ? input->kernel_count : input->count;
	return set->file == PTAP_FILE_KERNEL ? PTAP_SIDE_KERNEL : PTAP_SIDE_USER;
}

/* Frames from the innermost one on between which none is missing. */
static uint32_t unbroken(const struct ptap_predicate_input *input)
{
	return input->whole & PTAP_SIDE_KERNEL ? input->count : input->kernel_count;
}

/* Whether the probed place is in user space, of whose functions the sets of the kernel do not speak. */
static int is_of_other_side(const struct ptap_predicate_set *set, const struct ptap_predicate_input *input)
{
	return set->file == PTAP_FILE_KERNEL && input->kernel_count == 0;
}

static enum ptap_verdict caller(const struct ptap_predicate *predicate, const struct ptap_predicate_input *input,
				const struct ptap_predicate_set *set, uint64_t limit)
{
	enum ptap_verdict found = PTAP_VERDICT_FALSE, here;
	uint32_t index, end, certain = unbroken(input);
	enum ptap_side side = frames_of(set, input, &index, &end);

	if (is_of_other_side(set, input))
		return PTAP_VERDICT_UNKNOWN;
	/* A call that is inlined in the probed frame may be the probed function itself. */
	if (predicate->program->inside && index == 0 && end > 0 &&
	    in_set(predicate, set, input->frames) != PTAP_VERDICT_FALSE)
		found = PTAP_VERDICT_UNKNOWN;
	for (index = index < input->first ? input->first : index; index < end; index++) {
		if (limit && index - input->first >= limit)
			return found;
		here = in_set(predicate, set, &input->frames[index]);
		/* Behind a gap it may be farther out than it looks. */
		if (here == PTAP_VERDICT_TRUE && limit && index >= certain)
			here = PTAP_VERDICT_UNKNOWN;
		if (here == PTAP_VERDICT_TRUE)
			return here;
		if (here == PTAP_VERDICT_UNKNOWN)
			found = here;
	}
	/* What is missing of a side is farther out than what is there of it. */
	if (limit && end >= input->first && end - input->first >= limit)
		return found;
	return input->whole & side ? found : PTAP_VERDICT_UNKNOWN;
}

static enum ptap_verdict direct_caller(const struct ptap_predicate *predicate, const struct ptap_predicate_input *input,
				       const struct ptap_predicate_set *set)
{
	uint32_t begin, end;
	enum ptap_side side = frames_of(set, input, &begin, &end);

	if (is_of_other_side(set, input) || predicate->program->inside)
		return PTAP_VERDICT_UNKNOWN;
	if (input->first >= unbroken(input))
		return input->whole & side && input->whole & PTAP_SIDE_KERNEL ? PTAP_VERDICT_FALSE :
										 PTAP_VERDICT_UNKNOWN;
	if (input->first < begin || input->first >= end)
		return PTAP_VERDICT_FALSE;
	return in_set(predicate, set, &input->frames[input->first]);
}

static enum ptap_verdict in_file(const struct ptap_predicate_input *input, uint32_t file)
{
	enum ptap_verdict found = input->whole & PTAP_SIDE_USER ? PTAP_VERDICT_FALSE : PTAP_VERDICT_UNKNOWN;

	for (uint32_t index = input->kernel_count; index < input->count; index++) {
		if (input->frames[index].file == file)
			return PTAP_VERDICT_TRUE;
		if (input->frames[index].file == PTAP_FILE_UNKNOWN)
			found = PTAP_VERDICT_UNKNOWN;
	}
	return found;
}

static enum ptap_verdict elsewhere(const struct ptap_predicate *predicate, const struct ptap_predicate_input *input,
				   uint32_t sides)
{
	uint32_t begin = sides & PTAP_SIDE_KERNEL ? 0 : input->kernel_count;
	uint32_t end = sides & PTAP_SIDE_USER ? input->count : input->kernel_count;

	if ((input->whole & sides) != sides)
		return PTAP_VERDICT_UNKNOWN;
	for (uint32_t index = begin; index < end; index++) {
		uint32_t file = input->frames[index].file;

		if ((file == PTAP_FILE_KERNEL) != (index < input->kernel_count) ||
		    file > predicate->program->file_count)
			return PTAP_VERDICT_UNKNOWN;
	}
	return PTAP_VERDICT_FALSE;
}

static enum ptap_verdict compare(uint64_t measured, uint32_t comparison, uint64_t value)
{
	switch (comparison) {
	case PTAP_COMPARISON_EQUAL:
		return verdict_of(measured == value);
	case PTAP_COMPARISON_NOT_EQUAL:
		return verdict_of(measured != value);
	case PTAP_COMPARISON_LESS:
		return verdict_of(measured < value);
	case PTAP_COMPARISON_LESS_OR_EQUAL:
		return verdict_of(measured <= value);
	case PTAP_COMPARISON_GREATER:
		return verdict_of(measured > value);
	default:
		return verdict_of(measured >= value);
	}
}

/* As compare, where only the least that was measured is known. */
static enum ptap_verdict compare_at_least(uint64_t least, uint32_t comparison, uint64_t value)
{
	switch (comparison) {
	case PTAP_COMPARISON_GREATER:
	case PTAP_COMPARISON_GREATER_OR_EQUAL:
		return compare(least, comparison, value) == PTAP_VERDICT_TRUE ? PTAP_VERDICT_TRUE :
										 PTAP_VERDICT_UNKNOWN;
	case PTAP_COMPARISON_NOT_EQUAL:
		return least > value ? PTAP_VERDICT_TRUE : PTAP_VERDICT_UNKNOWN;
	case PTAP_COMPARISON_EQUAL:
		return least > value ? PTAP_VERDICT_FALSE : PTAP_VERDICT_UNKNOWN;
	default: /* less, or less or equal */
		return compare(least, comparison, value) == PTAP_VERDICT_FALSE ? PTAP_VERDICT_FALSE :
										  PTAP_VERDICT_UNKNOWN;
	}
}

static enum ptap_verdict measure(const struct ptap_predicate_input *input,
				 const struct ptap_predicate_instruction *instruction)
{
	uint32_t measured, sides;

	switch (instruction->operand) {
	case PTAP_MEASURE_PID:
		return compare(input->pid, instruction->comparison, instruction->value);
	case PTAP_MEASURE_TID:
		return compare(input->tid, instruction->comparison, instruction->value);
	case PTAP_MEASURE_KERNEL_DEPTH:
		measured = input->kernel_count;
		sides = PTAP_SIDE_KERNEL;
		break;
	case PTAP_MEASURE_USER_DEPTH:
		measured = input->count - input->kernel_count;
		sides = PTAP_SIDE_USER;
		break;
	default:
		measured = input->count;
		sides = PTAP_SIDE_BOTH;
		break;
	}
	if ((input->whole & sides) == sides)
		return compare(measured, instruction->comparison, instruction->value);
	return compare_at_least(measured, instruction->comparison, instruction->value);
}

/* Both end at the first zero. */
static int same_name(const uint8_t *name, const uint8_t *other)
{
	for (int index = 0; index < 16; index++) {
		if (name[index] != other[index])
			return 0;
		if (!name[index])
			break;
	}
	return 1;
}

static enum ptap_verdict term(const struct ptap_predicate *predicate, const struct ptap_predicate_input *input,
			      const struct ptap_predicate_instruction *instruction)
{
	switch (instruction->operation) {
	case PTAP_OPERATION_CALLER:
		return caller(predicate, input, &predicate->sets[instruction->operand], instruction->value);
	case PTAP_OPERATION_DIRECT_CALLER:
		return direct_caller(predicate, input, &predicate->sets[instruction->operand]);
	case PTAP_OPERATION_IN_FILE:
		return in_file(input, instruction->operand);
	case PTAP_OPERATION_ELSEWHERE:
		return elsewhere(predicate, input, instruction->operand);
	case PTAP_OPERATION_COMM:
		return verdict_of(same_name(input->comm, instruction->text));
	case PTAP_OPERATION_UNDECIDABLE:
		return PTAP_VERDICT_UNKNOWN;
	default:
		return measure(input, instruction);
	}
}

enum ptap_verdict ptap_predicate_evaluate(const struct ptap_predicate *predicate,
					  const struct ptap_predicate_input *input)
{
	uint8_t stack[PTAP_PREDICATE_DEPTH];
	uint32_t top = 0; /* verdicts on it */

	for (uint32_t index = 0; index < predicate->program->instruction_count; index++) {
		const struct ptap_predicate_instruction *instruction = &predicate->instructions[index];

		switch (instruction->operation) {
		case PTAP_OPERATION_AND:
			top--;
			if (rank(stack[top]) < rank(stack[top - 1]))
				stack[top - 1] = stack[top];
			break;
		case PTAP_OPERATION_OR:
			top--;
			if (rank(stack[top]) > rank(stack[top - 1]))
				stack[top - 1] = stack[top];
			break;
		case PTAP_OPERATION_NOT:
			if (stack[top - 1] != PTAP_VERDICT_UNKNOWN)
				stack[top - 1] ^= 1;
			break;
		default:
			stack[top++] = (uint8_t)term(predicate, input, instruction);
		}
	}
	return stack[0];
}
