/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How the words of a record are packed, and where its runs lie (relay_reader/record_schema.py). It is written in one go,
 * without knowing how many words there will be, and needs nothing of the kernel: tests run it outside.
 */
#ifndef PTAP_PACK_H
#define PTAP_PACK_H

#include "ptap_record.h"

#define PTAP_HIGHS_TOLD (PTAP_HIGH_NEWEST - PTAP_HIGH_TOLD)

/* The bytes that `words` take at the most: each of them may need its upper half told. */
#define PTAP_PACKED_BYTES(words) \
	(4 * (PTAP_GROUP_ENTRIES + 1) * ((2 * (words) + PTAP_GROUP_ENTRIES - 1) / PTAP_GROUP_ENTRIES))

/* The upper halves that have a code. */
struct ptap_highs {
	uint32_t count; /* of `told` */
	uint32_t told[PTAP_HIGHS_TOLD];
	uint32_t newest; /* where all of these were told */
	uint32_t has_newest;
};

struct ptap_packer {
	uint32_t *next; /* where the next lower half goes */
	uint32_t *group; /* where the codes of the group go */
	uint32_t codes; /* of the group so far, the newest one uppermost */
	uint32_t entries; /* so far */
	uint32_t high; /* the upper half of the latest word */
	uint32_t code; /* its code, uppermost */
};

/* What a record consists of behind its fixed part, while it is written. */
struct ptap_writer {
	struct ptap_packer packer;
	struct ptap_highs highs;
	struct ptap_run_told *run; /* the next one */
	uint64_t run_end; /* of the one before */
};

/* Begin at `to`, a multiple of 4, with room for `runs`. */
void ptap_pack_begin(struct ptap_writer *writer, void *to, uint32_t runs);

/* Pack one word. */
void ptap_pack_word(struct ptap_writer *writer, uint64_t word);

/* Pack `count` words as they lie at `words`, which may change meanwhile. */
void ptap_pack_words(struct ptap_writer *writer, const uint64_t *words, uint32_t count);

/* Pack those of `registers` that `known` names. */
void ptap_pack_registers(struct ptap_writer *writer, const uint64_t *registers, uint32_t known);

/* A run begins at `address`, a multiple of 8: its words are to be packed now, and counted by ptap_run_end. */
void ptap_run_begin(struct ptap_writer *writer, uint64_t address);

/* The run has `count` words. */
static inline void ptap_run_end(struct ptap_writer *writer, uint32_t count)
{
	writer->run->count = (uint16_t)count;
	writer->run_end += 8 * (uint64_t)count;
	writer->run++;
}

/* End with what was packed; behind it, a multiple of 4. */
void *ptap_pack_end(struct ptap_writer *writer);

#endif
