/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How a table's words are read and what is in them, as cfi_tables/schema.py tells: for lookups and for the check. */
#ifndef PTAP_CODING_H
#define PTAP_CODING_H

#include "ptap_table.h"

/* The fields of a step word and of a delta's word. */
#define LENGTH(word) ((word) & 15)
#define DELTA_CLASS(word) ((word) >> 4 & 15)
#define SUCCESSOR_BITS(word) ((word) >> 8 & 15)
#define RECORD(word) ((word) >> 12)
#define DELTA_EXTRA(word) ((word) >> 4 & 15)
#define DELTA_BASE(word) ((word) >> 8)

/* An entry of a register list: the register in 6 bits, the kind of its rule in 3, a signed value in the rest. */
#define ENTRY_REGISTER(word) ((word) & 63)
#define ENTRY_KIND(word) ((word) >> 6 & 7)
#define ENTRY_VALUE(word) ((int32_t)(word) >> 9)

/* Bits that a row takes at the most, where it has neither an escape nor a far delta: readers get them at once. */
#define NEAR_BITS 24

/* Words of a rule record, which its successors follow. */
#define RECORD_WORDS ((uint32_t)sizeof(struct ptap_rule) / 4)

/* One instruction each: a file that is compiled for size would call them. */
#define PTAP_ALWAYS_INLINE inline __attribute__((__always_inline__))

static PTAP_ALWAYS_INLINE uint32_t read_u16(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static PTAP_ALWAYS_INLINE uint32_t read_u32(const uint8_t *at)
{
	return read_u16(at) | read_u16(at + 2) << 16;
}

static PTAP_ALWAYS_INLINE uint64_t read_u64(const uint8_t *at)
{
	return read_u32(at) | (uint64_t)read_u32(at + 4) << 32;
}

#endif
