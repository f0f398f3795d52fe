// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* DWARF expressions of call frame information. Signed arithmetic that may wrap is done on unsigned integers. */

#include "ptap_expression.h"

/* Operations (DWARF 5 §7.7.1). */
enum {
	OP_ADDR = 0x03, OP_DEREF = 0x06, OP_CONST1U = 0x08, OP_CONST1S = 0x09, OP_CONST2U = 0x0a, OP_CONST2S = 0x0b,
	OP_CONST4U = 0x0c, OP_CONST4S = 0x0d, OP_CONST8U = 0x0e, OP_CONST8S = 0x0f, OP_CONSTU = 0x10,
	OP_CONSTS = 0x11, OP_DUP = 0x12, OP_DROP = 0x13, OP_OVER = 0x14, OP_PICK = 0x15, OP_SWAP = 0x16, OP_ROT = 0x17,
	OP_ABS = 0x19, OP_AND = 0x1a, OP_DIV = 0x1b, OP_MINUS = 0x1c, OP_MOD = 0x1d, OP_MUL = 0x1e, OP_NEG = 0x1f,
	OP_NOT = 0x20, OP_OR = 0x21, OP_PLUS = 0x22, OP_PLUS_UCONST = 0x23, OP_SHL = 0x24, OP_SHR = 0x25,
	OP_SHRA = 0x26, OP_XOR = 0x27, OP_BRA = 0x28, OP_EQ = 0x29, OP_GE = 0x2a, OP_GT = 0x2b, OP_LE = 0x2c,
	OP_LT = 0x2d, OP_NE = 0x2e, OP_SKIP = 0x2f, OP_LIT0 = 0x30, OP_LIT31 = 0x4f, OP_BREG0 = 0x70, OP_BREG31 = 0x8f,
	OP_BREGX = 0x92, OP_DEREF_SIZE = 0x94, OP_NOP = 0x96,
};

/* A larger LEB128 value is no offset or register of any real program. */
#define LEB_LIMIT (1ull << 55)
#define LEB_BITS 56

/* The position of what can be read no more. */
#define DAMAGED (-1ll)

/* One run: where it is, and how much is on the stack. */
struct run {
	const struct ptap_expression *of;
	int64_t at;
	int64_t end;
	uint32_t depth;
};

static uint64_t read_uleb(struct run *run)
{
	uint64_t value = 0;
	uint32_t shift = 0;

	while (run->at >= 0 && run->at < run->end) {
		uint8_t byte = run->of->code[run->at++];

		if (shift < LEB_BITS)
			value |= (uint64_t)(byte & 127) << shift;
		else if (byte & 127)
			break;
		shift += 7;
		if (byte < 128) {
			if (value > LEB_LIMIT)
				break;
			return value;
		}
	}
	run->at = DAMAGED;
	return 0;
}

static int64_t read_sleb(struct run *run)
{
	uint64_t value = 0;
	uint32_t shift = 0;

	while (run->at >= 0 && run->at < run->end) {
		uint8_t byte = run->of->code[run->at++];

		if (shift < LEB_BITS)
			value |= (uint64_t)(byte & 127) << shift;
		else if ((byte & 127) != (value & LEB_LIMIT ? 127 : 0))
			break;
		shift += 7;
		if (byte < 128) {
			uint32_t bits = shift > LEB_BITS ? LEB_BITS : shift;

			if (value >> (bits - 1) & 1)
				value -= 1ull << bits;
			return (int64_t)value;
		}
	}
	run->at = DAMAGED;
	return 0;
}

/* Bytes of the fixed-size operand of an operation. */
static uint32_t operand_size(uint8_t op)
{
	switch (op) {
	case OP_CONST1U: case OP_CONST1S: case OP_PICK: case OP_DEREF_SIZE:
		return 1;
	case OP_CONST2U: case OP_CONST2S: case OP_BRA: case OP_SKIP:
		return 2;
	case OP_CONST4U: case OP_CONST4S:
		return 4;
	case OP_ADDR: case OP_CONST8U: case OP_CONST8S:
		return 8;
	}
	return 0;
}

static int64_t read_operand(struct run *run, uint8_t op, uint32_t size)
{
	int is_signed = op == OP_CONST1S || op == OP_CONST2S || op == OP_CONST4S || op == OP_BRA || op == OP_SKIP;
	uint64_t value = 0;

	for (uint32_t byte = 0; byte < size; byte++)
		value |= (uint64_t)run->of->code[run->at + byte] << (8 * byte);
	run->at += size;
	if (is_signed && value >> (8 * size - 1))
		value -= 1ull << (8 * size);
	return (int64_t)value;
}

/* Rounded towards zero; `right` is not zero. */
static int64_t quotient(int64_t left, int64_t right)
{
	if (right == -1) /* the one quotient that may not fit */
		return (int64_t)(0 - (uint64_t)left);
	return left / right;
}

static int64_t shift_right_arithmetic(int64_t value, int64_t count)
{
	uint64_t sign = value < 0 ? ~0ull : 0;

	if (count <= 0)
		return value;
	if (count > 63)
		return (int64_t)sign;
	return (int64_t)((uint64_t)value >> count | sign << (64 - count));
}

/* The binary operations of DWARF 5 §2.5.1.4 and §2.5.1.5; false for a division by zero, or for no such operation. */
static int binary(uint8_t op, int64_t left, int64_t right, int64_t *result)
{
	uint64_t a = (uint64_t)left, b = (uint64_t)right;

	switch (op) {
	case OP_AND: *result = (int64_t)(a & b); return 1;
	case OP_DIV: *result = right ? quotient(left, right) : 0; return right != 0;
	case OP_MINUS: *result = (int64_t)(a - b); return 1;
	case OP_MOD: *result = right ? (int64_t)(a % b) : 0; return right != 0;
	case OP_MUL: *result = (int64_t)(a * b); return 1;
	case OP_OR: *result = (int64_t)(a | b); return 1;
	case OP_PLUS: *result = (int64_t)(a + b); return 1;
	case OP_SHL: *result = b > 63 ? 0 : (int64_t)(a << b); return 1;
	case OP_SHR: *result = b > 63 ? 0 : (int64_t)(a >> b); return 1;
	case OP_SHRA: *result = shift_right_arithmetic(left, right); return 1;
	case OP_XOR: *result = (int64_t)(a ^ b); return 1;
	case OP_EQ: *result = left == right; return 1;
	case OP_GE: *result = left >= right; return 1;
	case OP_GT: *result = left > right; return 1;
	case OP_LE: *result = left <= right; return 1;
	case OP_LT: *result = left < right; return 1;
	case OP_NE: *result = left != right; return 1;
	}
	return 0;
}

/* The stack operations of DWARF 5 §2.5.1.3; false when the stack is too short. */
static int rearrange(struct run *run, uint8_t op, int64_t operand)
{
	int64_t *top = run->of->stack + run->depth; /* behind the topmost value */
	int64_t kept;

	switch (op) {
	case OP_DUP:
		if (run->depth < 1)
			return 0;
		top[0] = top[-1];
		run->depth++;
		return 1;
	case OP_DROP:
		if (run->depth < 1)
			return 0;
		run->depth--;
		return 1;
	case OP_OVER:
		if (run->depth < 2)
			return 0;
		top[0] = top[-2];
		run->depth++;
		return 1;
	case OP_PICK:
		if (operand >= run->depth)
			return 0;
		top[0] = top[-1 - operand];
		run->depth++;
		return 1;
	case OP_SWAP:
		if (run->depth < 2)
			return 0;
		kept = top[-1];
		top[-1] = top[-2];
		top[-2] = kept;
		return 1;
	case OP_ROT:
		if (run->depth < 3)
			return 0;
		kept = top[-1];
		top[-1] = top[-2];
		top[-2] = top[-3];
		top[-3] = kept;
		return 1;
	}
	return 0;
}

static enum ptap_evaluation push_register(struct run *run, uint8_t op, int64_t *value)
{
	uint64_t number = op == OP_BREGX ? read_uleb(run) : (uint64_t)op - OP_BREG0;
	int64_t offset = read_sleb(run);

	if (number >= PTAP_REGISTER_COUNT || !(run->of->known >> number & 1)) {
		*value = (int64_t)number;
		return PTAP_EVALUATION_NO_REGISTER;
	}
	run->of->stack[run->depth++] = (int64_t)(run->of->registers[number] + (uint64_t)offset);
	return PTAP_EVALUATED;
}

static enum ptap_evaluation dereference(struct run *run, int64_t size, int64_t *value)
{
	const struct ptap_memory *memory = run->of->memory;
	int64_t *top = run->of->stack + run->depth - 1;
	uint64_t loaded;

	if (run->depth < 1 || size < 1 || size > 8)
		return PTAP_EVALUATION_BAD;
	if (memory->read(memory->context, (uint64_t)*top, (uint32_t)size, &loaded) != PTAP_READ_DONE) {
		*value = *top;
		return PTAP_EVALUATION_NO_MEMORY;
	}
	*top = (int64_t)loaded;
	return PTAP_EVALUATED;
}

/* A branch, always or when the topmost value is not zero; false when it goes backward or out of the expression. */
static int branch(struct run *run, uint8_t op, int64_t distance)
{
	if (op == OP_BRA) {
		if (run->depth < 1)
			return 0;
		run->depth--;
		if (!run->of->stack[run->depth])
			return 1;
	}
	if (distance < 0 || run->at + distance > run->end)
		return 0;
	run->at += distance;
	return 1;
}

/* The operations that need one value or two, and change the topmost. */
static int calculate(struct run *run, uint8_t op)
{
	int64_t *top = run->of->stack + run->depth - 1;
	uint64_t addend;

	switch (op) {
	case OP_ABS:
	case OP_NEG:
		if (run->depth < 1)
			return 0;
		if (op == OP_NEG || *top < 0)
			*top = (int64_t)(0 - (uint64_t)*top);
		return 1;
	case OP_NOT:
		if (run->depth < 1)
			return 0;
		*top = ~*top;
		return 1;
	case OP_PLUS_UCONST:
		addend = read_uleb(run);
		if (run->depth < 1)
			return 0;
		*top = (int64_t)((uint64_t)*top + addend);
		return 1;
	}
	if (run->depth < 2 || !binary(op, top[-1], top[0], &top[-1]))
		return 0;
	run->depth--;
	return 1;
}

static enum ptap_evaluation good_or_bad(int good)
{
	return good ? PTAP_EVALUATED : PTAP_EVALUATION_BAD;
}

static enum ptap_evaluation run_one(struct run *run, uint8_t op, int64_t operand, int64_t *value)
{
	int64_t *top = run->of->stack + run->depth;

	if (op >= OP_LIT0 && op <= OP_LIT31) {
		*top = op - OP_LIT0;
		run->depth++;
		return PTAP_EVALUATED;
	}
	if ((op >= OP_BREG0 && op <= OP_BREG31) || op == OP_BREGX)
		return push_register(run, op, value);
	switch (op) {
	case OP_ADDR: case OP_CONST1U: case OP_CONST1S: case OP_CONST2U: case OP_CONST2S: case OP_CONST4U:
	case OP_CONST4S: case OP_CONST8U: case OP_CONST8S:
		*top = operand;
		run->depth++;
		return PTAP_EVALUATED;
	case OP_CONSTU:
		*top = (int64_t)read_uleb(run);
		run->depth++;
		return PTAP_EVALUATED;
	case OP_CONSTS:
		*top = read_sleb(run);
		run->depth++;
		return PTAP_EVALUATED;
	case OP_DEREF:
		return dereference(run, 8, value);
	case OP_DEREF_SIZE:
		return dereference(run, operand, value);
	case OP_DUP: case OP_DROP: case OP_OVER: case OP_PICK: case OP_SWAP: case OP_ROT:
		return good_or_bad(rearrange(run, op, operand));
	case OP_SKIP: case OP_BRA:
		return good_or_bad(branch(run, op, operand));
	case OP_NOP:
		return PTAP_EVALUATED;
	}
	return good_or_bad(calculate(run, op));
}

enum ptap_evaluation ptap_evaluate(const struct ptap_expression *expression, const int64_t *initial, int64_t *value)
{
	struct run run = { .of = expression, .at = 0, .end = expression->length, .depth = 0 };

	*value = 0;
	if (initial)
		expression->stack[run.depth++] = *initial;
	while (run.at < run.end) {
		uint8_t op = expression->code[run.at++];
		uint32_t size = operand_size(op);
		enum ptap_evaluation result;

		/* One operation pushes one value at the most. */
		if (run.at + size > run.end || run.depth >= PTAP_EXPRESSION_DEPTH - 1)
			return PTAP_EVALUATION_BAD;
		result = run_one(&run, op, read_operand(&run, op, size), value);
		if (result != PTAP_EVALUATED)
			return result;
		if (run.at < 0)
			return PTAP_EVALUATION_BAD;
	}
	if (run.depth < 1)
		return PTAP_EVALUATION_BAD;
	*value = expression->stack[run.depth - 1];
	return PTAP_EVALUATED;
}

uint32_t ptap_expression_registers(const uint8_t *code, uint32_t length)
{
	const struct ptap_expression expression = { .code = code, .length = length };
	struct run run = { .of = &expression, .at = 0, .end = length };
	uint32_t found = 0;

	while (run.at >= 0 && run.at < run.end) {
		uint8_t op = code[run.at++];
		uint64_t number = op >= OP_BREG0 && op <= OP_BREG31 ? (uint64_t)op - OP_BREG0 : PTAP_REGISTER_COUNT;

		if (op == OP_SKIP || op == OP_BRA)
			return ~0u;
		run.at += operand_size(op);
		if (op == OP_BREGX || op == OP_CONSTU || op == OP_PLUS_UCONST)
			number = read_uleb(&run);
		if (op == OP_BREGX || (op >= OP_BREG0 && op <= OP_BREG31)) {
			read_sleb(&run);
			found |= number < PTAP_REGISTER_COUNT ? 1u << number : 0;
		} else if (op == OP_CONSTS) {
			read_sleb(&run);
		}
	}
	return run.at < 0 ? ~0u : found;
}
