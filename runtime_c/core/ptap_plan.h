/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rules of a table, decoded for the walk: where a frame's CFA is and which words hold its caller's registers.
 *
 * Walks come to the same addresses again and again, so they remember what they have looked up. An address is compared
 * whole, and plans are valid only for the mappings that they were made for.
 */
#ifndef PTAP_PLAN_H
#define PTAP_PLAN_H

#include "ptap_expression.h"

/* x86-64's registers by DWARF number (System V ABI AMD64, figure 3.36). */
#define PTAP_FRAME_POINTER 6
#define PTAP_STACK_POINTER 7
#define PTAP_RETURN_ADDRESS 16

/* rbx, rbp, r12-r15: preserved across calls (System V ABI AMD64 §3.2.1), so unchanged where no rule names them. */
#define PTAP_CALLEE_SAVED (1u << 3 | 1u << 6 | 0xfu << 12)

enum ptap_frame_flag {
	PTAP_FRAME_EXACT = 1, /* the pc was interrupted; else it is a return address */
	PTAP_FRAME_SIGNAL = 2, /* a signal frame, whose caller was interrupted */
	PTAP_FRAME_HAS_CFA = 4,
};

#define PTAP_PLAN_SLOTS 8
#define PTAP_REMEMBERED_BITS 10
#define PTAP_REMEMBERED_PLANS (1 << PTAP_REMEMBERED_BITS)
#define PTAP_REMEMBERED_RULE_BITS 8
#define PTAP_REMEMBERED_RULES (1 << PTAP_REMEMBERED_RULE_BITS)

/* A register whose value of the caller lies in a word of the frame. */
struct ptap_slot {
	uint8_t number;
	uint8_t word; /* from the frame's `low` on */
};

/*
 * How the frame at an address is unwound.
 *
 * Simple is one whose CFA is a register and an offset, and whose registers lie in words near it or stay as they are:
 * these are more than 99 of 100. For the others only the rule is known.
 */
struct ptap_plan {
	uint64_t pc; /* that was looked up, at run time */
	uint32_t generation; /* of the mappings that it was looked up in, 0 for none; or ptap_walk's `renewed` */
	int32_t mapping;
	int32_t rule; /* as ptap_find_rule has it, not -1 */
	int32_t cfa_offset;
	uint32_t kept; /* bit r: the caller's register r is known where that of the frame is */
	uint32_t given; /* bit r: it is known anyway */
	uint32_t carried; /* bit r: a value of the frame, where it has one, is handed on as an inner frame's */
	int16_t low; /* bytes from the CFA to the lowest word that is read */
	uint16_t span; /* bytes from there to behind the highest one */
	uint8_t is_simple;
	uint8_t is_signal; /* 1: the caller was interrupted */
	uint8_t frame_flags; /* what enum ptap_frame_flag says of it */
	uint8_t cfa_register;
	uint8_t return_word; /* of the return address, from `low` on */
	uint8_t slot_count;
	uint8_t unused[2];
	struct ptap_slot slots[PTAP_PLAN_SLOTS];
};
_Static_assert(sizeof(struct ptap_plan) == 64, "ptap_plan");

/*
 * Plans by the address, and by the rule, of mappings that stay as they are, for one user at a time. Most addresses have
 * one of few rules, so one that was not seen yet has a plan at once when its rule is found.
 */
struct ptap_remembered {
	struct ptap_plan plans[PTAP_REMEMBERED_PLANS];
	struct ptap_plan rules[PTAP_REMEMBERED_RULES]; /* `pc` is the mapping and the rule */
};

/* Fibonacci hashing: the upper bits of a product depend on all bits below. */
#define PTAP_HASH(number, bits) ((number) * 0x9e3779b97f4a7c15ull >> (64 - (bits)))

/* The place of an address's plan. */
static inline struct ptap_plan *ptap_plan_at(struct ptap_remembered *remembered, uint64_t pc)
{
	return &remembered->plans[PTAP_HASH(pc, PTAP_REMEMBERED_BITS)];
}

/*
 * Fill all of `plan` that depends on the rule at byte `rule` of the table; a register of `unwanted` (bits) is not
 * recovered, and unknown then. 0 when the rule or its list lies outside of the table.
 */
int ptap_make_plan(const uint8_t *table, uint32_t size, int32_t rule, uint32_t unwanted, struct ptap_plan *plan);

/*
 * Bit r: some rule of the checked table needs register r to find a CFA, or to recover a register. The others are of no
 * use to a walk that only asks for addresses.
 */
uint32_t ptap_registers_needed(const uint8_t *table);

#endif
