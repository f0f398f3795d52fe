/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The address spaces of processes, as user space tells them while the session runs: which table holds where.
 *
 * A space is kept by its mm_struct, whose address is nobody else's as long as it is held here: threads share it, a
 * forked child and a program after exec have another one, so what was told of one is never believed of another. What
 * is told is compared with the mm's own mappings once, under its lock. After that only changes matter, and one that
 * adds or takes executable pages shows in their count, by which every hit looks; of a file that was mapped in place of
 * another one of the same size in between, the collector's next look tells.
 *
 * Probes read without a lock, with preemption off: a new set is published whole, the old one freed when none reads it.
 */
#ifndef PTAP_SPACE_H
#define PTAP_SPACE_H

#include <linux/mm_types.h>

#include "ptap_walk.h"

struct ptap_space {
	struct mm_struct *mm; /* held, but not its memory */
	u64 generation;
	u32 number; /* of these mappings, as struct ptap_walk has it */
	u32 needed; /* registers that walks through them need */
	unsigned long executable_pages; /* when it was told */
	u32 mapping_count;
	struct ptap_mapping mappings[];
};

/* What was told of `mm`, or null; with preemption off. */
const struct ptap_space *ptap_space_of(const struct mm_struct *mm);

/* Whether the space's mappings are those of today, as far as a look at a count can tell. */
int ptap_space_is_current(const struct ptap_space *space);

/* Each takes its message's bytes, under the session's lock; 0 or -errno, with the session's `error` written. */
int ptap_space_add_table(const void *message, size_t size);
int ptap_space_tell(const void *message, size_t size);

/* Forget all; no probe runs any more. */
void ptap_space_free_all(void);

#endif
