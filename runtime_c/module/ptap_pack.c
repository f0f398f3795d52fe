// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Every word of a record comes through here: what changes from word to word is in locals, so that compilers keep it in
 * registers, and what is seldom needed, an upper half other than that of the word before, is in a function of its own.
 */

#include "ptap_pack.h"

#define CODE_SHIFT 28
#define FIRST 0x80000000u /* beside a code: the upper half has to be told before the word */
#define PTAP_ALWAYS_INLINE inline __attribute__((__always_inline__))

void ptap_pack_begin(struct ptap_writer *writer, void *to, uint32_t runs)
{
	struct ptap_packer *packer = &writer->packer;

	writer->run = (struct ptap_run_told *)to;
	writer->run_end = 0;
	writer->highs.count = 0;
	writer->highs.has_newest = 0;
	packer->group = (uint32_t *)to + runs;
	packer->next = packer->group + 1;
	packer->codes = 0;
	packer->entries = 0;
	packer->high = 0;
	packer->code = 0;
}

/* The code of an upper half, with FIRST where it is new. */
static __attribute__((__noinline__)) uint32_t code_of(struct ptap_highs *highs, uint32_t high)
{
	uint32_t index;

	if (!high)
		return 0;
	if (high == UINT32_MAX)
		return PTAP_HIGH_ONES;
	for (index = 0; index < highs->count; index++) {
		if (highs->told[index] == high)
			return PTAP_HIGH_TOLD + index;
	}
	if (highs->count < PTAP_HIGHS_TOLD) {
		highs->told[highs->count] = high;
		return FIRST | (PTAP_HIGH_TOLD + highs->count++);
	}
	if (highs->has_newest && highs->newest == high)
		return PTAP_HIGH_NEWEST;
	highs->has_newest = 1;
	highs->newest = high;
	return FIRST | PTAP_HIGH_NEWEST;
}

static PTAP_ALWAYS_INLINE void put(struct ptap_packer *packer, uint32_t shifted, uint32_t low)
{
	packer->codes = packer->codes >> 4 | shifted;
	*packer->next++ = low;
	if (++packer->entries % PTAP_GROUP_ENTRIES == 0) {
		*packer->group = packer->codes;
		packer->group = packer->next++;
	}
}

static PTAP_ALWAYS_INLINE void pack(struct ptap_packer *packer, struct ptap_highs *highs, uint64_t word)
{
	uint32_t high = (uint32_t)(word >> 32);

	if (high != packer->high) {
		uint32_t code = code_of(highs, high);

		if (code & FIRST)
			put(packer, (uint32_t)PTAP_HIGH_TELLS << CODE_SHIFT, high);
		packer->high = high;
		packer->code = code << CODE_SHIFT;
	}
	put(packer, packer->code, (uint32_t)word);
}

void ptap_pack_word(struct ptap_writer *writer, uint64_t word)
{
	pack(&writer->packer, &writer->highs, word);
}

void ptap_pack_words(struct ptap_writer *writer, const uint64_t *words, uint32_t count)
{
	struct ptap_packer packer = writer->packer;
	const uint64_t *end = words + count;

	for (; words < end; words++)
		pack(&packer, &writer->highs, *(const volatile uint64_t *)words);
	writer->packer = packer;
}

void ptap_pack_registers(struct ptap_writer *writer, const uint64_t *registers, uint32_t known)
{
	struct ptap_packer packer = writer->packer;

	for (; known; known >>= 1, registers++) {
		if (known & 1)
			pack(&packer, &writer->highs, *registers);
	}
	writer->packer = packer;
}

void ptap_run_begin(struct ptap_writer *writer, uint64_t address)
{
	uint64_t gap = (address - writer->run_end) / 8;

	/* What lies before the end of the run before is far, too. */
	if (gap >= PTAP_GAP_FAR) {
		gap = PTAP_GAP_FAR;
		ptap_pack_word(writer, address);
	}
	writer->run->gap = (uint16_t)gap;
	writer->run_end = address;
}

void *ptap_pack_end(struct ptap_writer *writer)
{
	struct ptap_packer *packer = &writer->packer;
	uint32_t inside = packer->entries % PTAP_GROUP_ENTRIES;

	/* A group was begun that has nothing. */
	if (!inside)
		return packer->group;
	*packer->group = packer->codes >> 4 * (PTAP_GROUP_ENTRIES - inside);
	return packer->next;
}
