/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Words of a record that lie apart, laid side by side: packing is begun once for all of them. */
#ifndef PTAP_GATHER_H
#define PTAP_GATHER_H

#include <linux/bitops.h>

#include "ptap_record.h"
#include "ptap_walk.h"

/* At the most: what a stack begins with, registers, and pcs. */
#define PTAP_GATHERED_WORDS (4 + PTAP_REGISTER_COUNT + PTAP_MAXIMUM_USER_FRAMES)

/* Those of `registers` that `known` names; behind them. */
static inline u64 *ptap_gather_registers(u64 *to, const u64 *registers, u32 known)
{
	for (; known; known &= known - 1)
		*to++ = registers[__ffs(known)];
	return to;
}

/* The pcs of `count` frames; behind them. */
static inline u64 *ptap_gather_pcs(u64 *to, const struct ptap_frame *frames, u32 count)
{
	const struct ptap_frame *end = frames + count;

	while (frames < end)
		*to++ = (frames++)->pc;
	return to;
}

#endif
