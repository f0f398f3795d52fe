/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether a stack is wanted: a program of the user's, run on the frames that were found at a probe.
 *
 * Freestanding: no library, no allocation, no recursion. A program is checked once; running it is bounded by its
 * instructions (PTAP_PREDICATE_INSTRUCTIONS), each of which looks at every frame once.
 */
#ifndef PTAP_PREDICATE_H
#define PTAP_PREDICATE_H

#include "ptap_predicate_program.h"

/* What ptap_predicate_check finds in a program. */
enum ptap_predicate_fault {
	PTAP_PREDICATE_SOUND = 0,
	PTAP_PREDICATE_SIZE, /* not what its header says, or more of something than there may be */
	PTAP_PREDICATE_OPERATION, /* an unknown one, or one whose operand does not exist */
	PTAP_PREDICATE_STACK, /* verdicts are missing or left over, or there are too many at a time */
	PTAP_PREDICATE_SET, /* lies outside of the ranges, or is of no file */
	PTAP_PREDICATE_RANGE, /* empty, or not behind the one before */
};

/* A program that was checked, and where its parts are. */
struct ptap_predicate {
	const struct ptap_predicate_program *program;
	const struct ptap_predicate_file *files;
	const struct ptap_predicate_instruction *instructions;
	const struct ptap_predicate_set *sets;
	const struct ptap_predicate_range *ranges;
};

/* A frame as predicates see it. */
struct ptap_predicate_frame {
	uint64_t address; /* link-time; of a return address, minus one */
	uint32_t file; /* PTAP_FILE_KERNEL, the number of one of the program's, PTAP_FILE_OTHER, PTAP_FILE_UNKNOWN */
};

/* A stack and what it belongs to. */
struct ptap_predicate_input {
	const struct ptap_predicate_frame *frames; /* innermost first: those in the kernel, then the user's */
	uint32_t kernel_count;
	uint32_t count; /* of all frames */
	uint32_t whole; /* enum ptap_side: where no frame is missing */
	uint32_t first; /* the first frame that is above the probed function: 0 at its return, else 1 */
	uint32_t pid;
	uint32_t tid;
	const uint8_t *comm; /* 16 bytes */
};

/*
 * Whether the `size` bytes at `program`, 8-byte aligned, are one that can be run on any stack; `predicate` is filled
 * where they are.
 */
enum ptap_predicate_fault ptap_predicate_check(const void *program, uint64_t size, struct ptap_predicate *predicate);

/* Run it. */
enum ptap_verdict ptap_predicate_evaluate(const struct ptap_predicate *predicate,
					  const struct ptap_predicate_input *input);

#endif
