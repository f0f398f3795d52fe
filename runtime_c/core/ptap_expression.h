/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The bounded evaluator for DWARF expressions in call frame information (DWARF 5 §2.5, §6.4.2): the C twin of
 * unwind/expression.py.
 *
 * Branches go forward only, so an expression of n bytes takes n operations at the most; the stack has a fixed depth.
 */
#ifndef PTAP_EXPRESSION_H
#define PTAP_EXPRESSION_H

#include "ptap_memory.h"

#define PTAP_EXPRESSION_DEPTH 64
#define PTAP_REGISTER_COUNT 17

/* What an evaluation came to. */
enum ptap_evaluation {
	PTAP_EVALUATED = 0,
	PTAP_EVALUATION_BAD = 1,
	PTAP_EVALUATION_NO_MEMORY = 2, /* the value is the address */
	PTAP_EVALUATION_NO_REGISTER = 3, /* the value is the register's number */
};

struct ptap_expression {
	const uint8_t *code;
	uint32_t length;
	const uint64_t *registers; /* PTAP_REGISTER_COUNT, in DWARF order */
	uint32_t known; /* bit r: register r holds a value */
	const struct ptap_memory *memory;
	int64_t *stack; /* scratch of PTAP_EXPRESSION_DEPTH values */
};

/* Run the expression, with `initial` on its stack unless that is a null pointer; `value` is what it comes to. */
enum ptap_evaluation ptap_evaluate(const struct ptap_expression *expression, const int64_t *initial, int64_t *value);

/* Bit r: the expression reads register r. All are set where it branches, or is damaged. */
uint32_t ptap_expression_registers(const uint8_t *code, uint32_t length);

#endif
