/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How the words of a record are packed, and where its runs lie (relay_reader/record_schema.py). It is written in one go,
 * without knowing how many words there will be, and needs nothing of the kernel: tests run it outside.
 */
#ifndef PTAP_PACK_H
#define PTAP_PACK_H

#include "ptap_record.h"

#define PTAP_HIGHS_TOLD (PTAP_HIGH_OTHER - PTAP_HIGH_TOLD)
#define PTAP_HIGH_PLACES 1024 /* so many that two halves hardly ever come to one */

/* Units of 4 bytes that the codes and lower halves of `words` take at the most. */
#define PTAP_GROUP_UNITS(words) ((PTAP_GROUP_ENTRIES + 1) * (((words) + PTAP_GROUP_ENTRIES - 1) / PTAP_GROUP_ENTRIES))

/* The bytes that `words` take at the most: each of them may need its upper half told. */
#define PTAP_PACKED_BYTES(words) (4 * (PTAP_GROUP_UNITS(words) + (words)))

struct ptap_highs {
	/*
	 * The halves that have a code, by their hash, so that a word takes one look. A place that nobody has come to says
	 * of 0 what is true, that its code is 0. Each half that is told comes to its place: one that finds it empty is new.
	 * The next record begins by emptying those that were come to.
	 */
	uint32_t halves[PTAP_HIGH_PLACES];
	uint32_t codes[PTAP_HIGH_PLACES + 2]; /* uppermost; of two more places, which halves have that are in none */
	uint16_t used[PTAP_HIGHS_TOLD]; /* the places of those that are told and have a code */
	uint32_t *told; /* those that get a code, then the others; they lie where the words will end at the most */
	uint32_t count; /* of `told` */
};

struct ptap_packer {
	uint32_t *group; /* the codes of the group that is being filled; behind them its lower halves */
	uint32_t codes; /* of it so far, the newest one uppermost */
	uint32_t inside; /* its entries so far, less than PTAP_GROUP_ENTRIES */
};

/* What a record consists of behind its fixed part, while it is written. All zero before the first one. */
struct ptap_writer {
	struct ptap_packer packer;
	struct ptap_highs highs;
	uint32_t words; /* so far */
	struct ptap_run_told *run; /* the next one */
	uint64_t run_end; /* of the one before, or the stack pointer */
};

/* Begin at `to`, a multiple of 4, with room for `runs` and for PTAP_PACKED_BYTES(words) of the most `words`. */
void ptap_pack_begin(struct ptap_writer *writer, void *to, uint32_t runs, uint32_t words);

/* Pack `count` words as they lie at `words`, which may change meanwhile. */
void ptap_pack_words(struct ptap_writer *writer, const uint64_t *words, uint32_t count);

/* The next run is the first of a stack whose pointer was this. */
static inline void ptap_runs_begin(struct ptap_writer *writer, uint64_t pointer)
{
	writer->run_end = pointer & ~(uint64_t)7;
}

/* A run begins at `address`, a multiple of 8: its words are to be packed now, and counted by ptap_run_end. */
void ptap_run_begin(struct ptap_writer *writer, uint64_t address);

/* The run has `count` words. */
static inline void ptap_run_end(struct ptap_writer *writer, uint32_t count)
{
	writer->run->count = (uint16_t)count;
	writer->run_end += 8 * (uint64_t)count;
	writer->run++;
}

/* End with what was packed, and the halves that were told behind it; behind these, a multiple of 4. */
void *ptap_pack_end(struct ptap_writer *writer);

#endif
