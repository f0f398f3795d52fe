// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* One frame. The rules are told in unwind/walk.py, and must stay the same in both. */

#include "ptap_step.h"

/* What one step works on. */
struct context {
	const uint8_t *table;
	uint32_t size;
	const struct ptap_memory *memory;
	const struct ptap_cursor *cursor;
	struct ptap_scratch *scratch;
	const struct ptap_rule *rule;
	const uint8_t *list; /* the rule's register list: a count, flags, two bytes of padding, then the entries */
	int64_t cfa;
};

/* An entry of a register list: the register in 6 bits, the kind of its rule in 3, a signed value in the rest. */
struct entry {
	uint8_t number;
	uint8_t kind;
	int32_t value;
};

static struct entry entry_at(const struct context *context, int index)
{
	const uint8_t *at = context->list + 4 + 4 * index;
	uint32_t word = at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;

	return (struct entry){ .number = word & 63, .kind = word >> 6 & 7, .value = (int32_t)word >> 9 };
}

static int is_signal_frame(const struct context *context)
{
	return context->list[1] & PTAP_RULE_FLAG_SIGNAL_FRAME;
}

static int memory_reason(enum ptap_read status)
{
	return status == PTAP_READ_BEYOND_CUT ? PTAP_STOP_REASON_STACK_CUT : PTAP_STOP_REASON_MEMORY_NOT_CAPTURED;
}

static enum ptap_read read_context(const struct context *context, int64_t address, int64_t *value)
{
	uint64_t loaded = 0;
	enum ptap_read status = ptap_read_word(context->memory, (uint64_t)address, &loaded);

	*value = (int64_t)loaded;
	return status;
}

/* Evaluate the expression at byte `offset` of the table's pool: a 16-bit length, then its bytes. */
static int run_expression(const struct context *context, int32_t offset, const int64_t *initial, int64_t *value)
{
	struct ptap_expression expression = {
		.registers = context->cursor->registers,
		.known = context->cursor->known,
		.memory = context->memory,
		.stack = context->scratch->stack,
	};
	uint32_t pool = ((const struct ptap_header *)(const void *)context->table)->expressions_offset;
	uint32_t at = pool + (uint32_t)offset;
	int64_t ignored;

	*value = 0;
	if (offset < 0 || at < pool || at > context->size - 2)
		return PTAP_STOP_REASON_BAD_EXPRESSION;
	expression.code = context->table + at + 2;
	expression.length = (uint32_t)context->table[at] | (uint32_t)context->table[at + 1] << 8;
	if (expression.length > context->size - 2 - at)
		return PTAP_STOP_REASON_BAD_EXPRESSION;
	switch (ptap_evaluate(&expression, initial, value)) {
	case PTAP_EVALUATED:
		return PTAP_GO_ON;
	case PTAP_EVALUATION_NO_MEMORY:
		return memory_reason(read_context(context, *value, &ignored));
	case PTAP_EVALUATION_NO_REGISTER:
		return PTAP_STOP_REASON_UNKNOWN_REGISTER;
	case PTAP_EVALUATION_BAD:
		break;
	}
	return PTAP_STOP_REASON_BAD_EXPRESSION;
}

static int is_known(const struct ptap_cursor *cursor, int64_t number)
{
	return number >= 0 && number < PTAP_REGISTER_COUNT && (cursor->known >> number & 1);
}

/* PTAP_GO_ON and the CFA in `value`, or a stop reason and what it speaks of. */
static int find_cfa(const struct context *context, int64_t *value)
{
	const struct ptap_rule *rule = context->rule;
	int32_t offset = rule->cfa_value;
	enum ptap_read status;
	int64_t address;

	if (rule->cfa_kind == PTAP_CFA_KIND_EXPRESSION)
		return run_expression(context, offset, (void *)0, value);
	*value = rule->cfa_register;
	if (!is_known(context->cursor, rule->cfa_register))
		return PTAP_STOP_REASON_UNKNOWN_REGISTER;
	if (rule->cfa_kind == PTAP_CFA_KIND_DEREF)
		offset = (int16_t)rule->cfa_value; /* what is added to the loaded word is in the upper half */
	address = (int64_t)(context->cursor->registers[rule->cfa_register] + (uint64_t)(int64_t)offset);
	*value = address;
	if (rule->cfa_kind == PTAP_CFA_KIND_REGISTER_OFFSET)
		return PTAP_GO_ON;
	status = read_context(context, address, value);
	if (status != PTAP_READ_DONE) {
		*value = address;
		return memory_reason(status);
	}
	*value = (int64_t)((uint64_t)*value + (uint64_t)(int64_t)(rule->cfa_value >> 16));
	return PTAP_GO_ON;
}

/* The word at `address`, or why not and the address. */
static int load(const struct context *context, int64_t address, int64_t *value)
{
	enum ptap_read status = read_context(context, address, value);

	if (status == PTAP_READ_DONE)
		return PTAP_GO_ON;
	*value = address;
	return memory_reason(status);
}

/*
 * In an epilogue, compilers do not say that a register was restored when it was popped: its slot lies below the stack
 * pointer already, and the register holds the caller's value.
 */
static int is_restored(const struct context *context, uint8_t number, int64_t address)
{
	const struct ptap_cursor *cursor = context->cursor;

	return address < (int64_t)cursor->registers[PTAP_STACK_POINTER] && number != PTAP_RETURN_ADDRESS &&
	       is_known(cursor, number) && cursor->exact;
}

/* PTAP_GO_ON and one of the caller's registers in `value`, or a stop reason and what it speaks of. */
static int recover(const struct context *context, struct entry entry, int64_t *value)
{
	const struct ptap_cursor *cursor = context->cursor;
	int64_t address = (int64_t)((uint64_t)context->cfa + (uint64_t)(int64_t)entry.value);
	int64_t source = entry.number;
	int status;

	switch (entry.kind) {
	case PTAP_REGISTER_KIND_AT_CFA:
		if (!is_restored(context, entry.number, address))
			return load(context, address, value);
		*value = (int64_t)cursor->registers[entry.number];
		return PTAP_GO_ON;
	case PTAP_REGISTER_KIND_CFA_PLUS:
		*value = address;
		return PTAP_GO_ON;
	case PTAP_REGISTER_KIND_EXPRESSION:
		status = run_expression(context, entry.value, &context->cfa, &address);
		*value = address;
		return status == PTAP_GO_ON ? load(context, address, value) : status;
	case PTAP_REGISTER_KIND_VAL_EXPRESSION:
		return run_expression(context, entry.value, &context->cfa, value);
	case PTAP_REGISTER_KIND_IN_REGISTER:
		source = entry.value;
		break;
	case PTAP_REGISTER_KIND_SAME:
		break;
	default:
		*value = source;
		return PTAP_STOP_REASON_UNKNOWN_REGISTER;
	}
	*value = source;
	if (!is_known(cursor, source))
		return PTAP_STOP_REASON_UNKNOWN_REGISTER;
	*value = (int64_t)cursor->registers[source];
	return PTAP_GO_ON;
}

/* Whether a register that cannot be recovered for this reason ends the walk. */
static int is_fatal(const struct context *context, uint8_t number, int reason)
{
	int missing = reason == PTAP_STOP_REASON_MEMORY_NOT_CAPTURED || reason == PTAP_STOP_REASON_STACK_CUT;

	return number == PTAP_RETURN_ADDRESS || (missing && context->cursor->on_demand);
}

/*
 * Put the caller's registers that the rule gives into the scratch, their numbers into `given`; PTAP_GO_ON, or a stop
 * reason with its detail.
 */
static int step_registers(const struct context *context, uint32_t *known, uint32_t *carried, uint32_t *given,
			  int64_t *detail)
{
	const struct ptap_cursor *cursor = context->cursor;
	uint64_t *caller = context->scratch->caller;

	*known = (cursor->known & PTAP_CALLEE_SAVED) | 1u << PTAP_STACK_POINTER;
	*carried = (cursor->known | cursor->carried) & ~PTAP_CALLEE_SAVED & ~(1u << PTAP_RETURN_ADDRESS);
	*given = 0;
	for (int index = 0; index < context->list[0]; index++) {
		struct entry entry = entry_at(context, index);
		int64_t value;
		int status;

		if (entry.number > PTAP_RETURN_ADDRESS)
			continue;
		*carried &= ~(1u << entry.number);
		status = recover(context, entry, &value);
		if (status == PTAP_GO_ON) {
			caller[entry.number] = (uint64_t)value;
			*known |= 1u << entry.number;
			*given |= 1u << entry.number;
			continue;
		}
		*detail = value;
		if (is_fatal(context, entry.number, status)) {
			if (entry.kind != PTAP_REGISTER_KIND_UNDEFINED)
				return status;
			*detail = 0;
			return PTAP_STOP_REASON_END_OF_STACK;
		}
		*known &= ~(1u << entry.number);
	}
	*carried &= ~(1u << PTAP_STACK_POINTER);
	*detail = PTAP_RETURN_ADDRESS;
	return *known >> PTAP_RETURN_ADDRESS & 1 ? PTAP_GO_ON : PTAP_STOP_REASON_UNKNOWN_REGISTER;
}

/*
 * Whether the CFA may follow the frame before's. It grows, but where code declares that it switches stacks: at a signal
 * frame, and where the CFA is in memory at the new stack's pointer, or what an expression gives.
 */
static int may_follow(const struct context *context, int64_t previous)
{
	const struct ptap_rule *rule = context->rule;

	if (context->cfa > previous || is_signal_frame(context))
		return 1;
	if (context->cfa == previous)
		return 0;
	/* The kernel before 5.12 keeps the old stack in rbp: from one of its stacks to another one. */
	if (rule->cfa_kind == PTAP_CFA_KIND_REGISTER_OFFSET)
		return rule->cfa_register == PTAP_FRAME_POINTER && context->cfa < 0 &&
		       context->cfa >> PTAP_KERNEL_STACK_BITS != previous >> PTAP_KERNEL_STACK_BITS;
	return rule->cfa_kind == PTAP_CFA_KIND_EXPRESSION ||
	       (rule->cfa_kind == PTAP_CFA_KIND_DEREF && rule->cfa_register == PTAP_STACK_POINTER);
}

/* Take the rule at byte `offset` of the table and its register list; 0 when there is none. */
static int take_rule(struct context *context, int32_t offset)
{
	const struct ptap_header *header = (const void *)context->table;
	uint32_t list;

	if (offset < 0)
		return 0;
	context->rule = (const void *)(context->table + offset);
	list = header->lists_offset + 4u * context->rule->list;
	if (list > context->size - 4 || 4u * context->table[list] > context->size - 4 - list)
		return 0;
	context->list = context->table + list;
	return 1;
}

int ptap_step(const uint8_t *table, uint32_t size, int32_t rule, const struct ptap_memory *memory,
	      struct ptap_cursor *cursor, struct ptap_step *step, struct ptap_scratch *scratch)
{
	struct context context = { .table = table, .size = size, .memory = memory, .cursor = cursor, .scratch = scratch };
	uint32_t known, carried, given;
	int64_t detail;
	int status;

	*step = (struct ptap_step){ 0 };
	if (!take_rule(&context, rule))
		return PTAP_STOP_REASON_NO_ROW;
	if (is_signal_frame(&context))
		step->flags |= PTAP_FRAME_SIGNAL;
	if (context.rule->cfa_kind == PTAP_CFA_KIND_OVERFLOW)
		return PTAP_STOP_REASON_OVERFLOW;
	if (context.rule->cfa_kind == PTAP_CFA_KIND_END)
		return PTAP_STOP_REASON_END_OF_STACK;
	status = find_cfa(&context, &detail);
	context.cfa = detail;
	if (status == PTAP_GO_ON && !may_follow(&context, cursor->previous_cfa))
		status = PTAP_STOP_REASON_BAD_CFA;
	if (status == PTAP_GO_ON) {
		step->cfa = context.cfa;
		step->flags |= PTAP_FRAME_HAS_CFA;
		status = step_registers(&context, &known, &carried, &given, &detail);
	}
	if (status != PTAP_GO_ON) {
		cursor->detail = (uint64_t)detail;
		return status;
	}
	cursor->registers[PTAP_STACK_POINTER] = (uint64_t)context.cfa;
	for (int number = 0; given; number++, given >>= 1) {
		if (given & 1)
			cursor->registers[number] = scratch->caller[number];
	}
	cursor->known = known;
	cursor->carried = carried;
	cursor->exact = step->flags & PTAP_FRAME_SIGNAL ? 1 : 0;
	cursor->previous_cfa = context.cfa;
	cursor->frames++;
	return PTAP_GO_ON;
}
