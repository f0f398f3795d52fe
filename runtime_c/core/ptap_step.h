/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From one frame to its caller, by a compact unwind table: the C twin of one turn of unwind/walk.py.
 *
 * Freestanding: no library, no allocation, no recursion, bounded time. Runs in the probe, and in user space for tests.
 */
#ifndef PTAP_STEP_H
#define PTAP_STEP_H

#include "ptap_plan.h"

/* The value of `previous_cfa` before the first frame. */
#define PTAP_NO_PREVIOUS_CFA INT64_MIN

/* Of an address inside one of the kernel's stacks, which are aligned to their size (THREAD_SIZE of x86-64). */
#define PTAP_KERNEL_STACK_BITS 14

/* The result of a step that found the caller; any other is an enum ptap_stop_reason. */
#define PTAP_GO_ON (-1)

/* Where a walk is: the registers of the current frame, whose pc is in the return address column. */
struct ptap_cursor {
	uint64_t registers[PTAP_REGISTER_COUNT];
	uint32_t known; /* bit r: register r holds a value */
	uint32_t carried; /* bit r: register r's value is an inner frame's, no rule tells what became of it */
	int64_t previous_cfa; /* of the frame before */
	uint64_t detail; /* what the stop reason speaks of: an address, or a register's number */
	uint32_t frames; /* found since the walk began */
	uint8_t exact; /* 1: the pc is looked up as it is; 0: minus one */
	uint8_t on_demand; /* 1: stop at any missing memory, for the caller to supply it */
};

/* What a step learned about the current frame. */
struct ptap_step {
	int64_t cfa; /* meaningful with PTAP_FRAME_HAS_CFA */
	uint32_t flags; /* PTAP_FRAME_SIGNAL, PTAP_FRAME_HAS_CFA */
};

/* Working memory, too large for a kernel's stack. */
struct ptap_scratch {
	struct ptap_remembered *remembered; /* or null: every rule is looked up */
	int64_t stack[PTAP_EXPRESSION_DEPTH];
	uint64_t caller[PTAP_REGISTER_COUNT]; /* meaningful where the register list says so */
};

/*
 * Make the cursor's frame its caller, by the rule at byte `rule` (as ptap_find_rule has it) of the table of `size` bytes;
 * -1 is no rule.
 *
 * Returns PTAP_GO_ON, or a stop reason with the cursor's registers still those of the frame.
 */
int ptap_step(const uint8_t *table, uint32_t size, int32_t rule, const struct ptap_memory *memory,
	      struct ptap_cursor *cursor, struct ptap_step *step, struct ptap_scratch *scratch);

#endif
