/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The walk over the modules of an address space: the C twin of unwind/walk.py. Freestanding, as ptap_step.h is. */
#ifndef PTAP_WALK_H
#define PTAP_WALK_H

#include "ptap_step.h"

enum ptap_mapping_kind {
	PTAP_MAPPING_MODULE = 0,
	PTAP_MAPPING_NO_TABLE = 1, /* of a file without CFI, or no file's */
	PTAP_MAPPING_TRAMPOLINE = 2, /* of the kernel's return probes */
};

/* One executable mapping. */
struct ptap_mapping {
	uint64_t start;
	uint64_t end; /* first address behind it */
	uint64_t bias; /* run-time address minus file virtual address */
	const uint8_t *table;
	const uint32_t *pages; /* of the table, as ptap_lookup.h has them; null for none */
	uint32_t table_size;
	uint32_t kind; /* enum ptap_mapping_kind */
};

struct ptap_frame {
	uint64_t pc;
	int64_t cfa; /* 0 without PTAP_FRAME_HAS_CFA */
	int32_t mapping; /* index, -1 for none */
	uint32_t flags; /* enum ptap_frame_flag */
	uint32_t known;
	uint32_t carried;
	uint64_t registers[PTAP_REGISTER_COUNT];
};

struct ptap_walk {
	const struct ptap_mapping *mappings; /* sorted by start */
	uint32_t mapping_count;
	const struct ptap_memory *memory;
	struct ptap_frame *frames;
	uint32_t room; /* of `frames` */
	uint32_t count; /* out: frames found */
	uint32_t without_registers; /* leave those of the frames alone, and their `known` and `carried` */
	uint32_t generation; /* a number that no other mappings or earlier state of these has; 0: remember no plans */
	uint32_t renewed; /* not 0: in place of `generation` for addresses, which are looked up anew when it changes */
	uint64_t trampoline; /* what a return probe whose real return address is not known leaves in its place; 0: none */
	uint32_t unwanted; /* bit r: register r need not be recovered (ptap_registers_needed); one value a generation */
	struct ptap_scratch *scratch;
};

/* The index of the mapping that holds `address`, -1 for none. */
int32_t ptap_find_mapping(const struct ptap_mapping *mappings, uint32_t count, uint64_t address);

/*
 * Walk from `cursor`, innermost frame first, and put the frames into `walk->frames`; the enum ptap_stop_reason.
 *
 * TOO_DEEP when the room is full: with more room, the same cursor goes on where it stopped.
 */
int ptap_walk(struct ptap_walk *walk, struct ptap_cursor *cursor);

#endif
