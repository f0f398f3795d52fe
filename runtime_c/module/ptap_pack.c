// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Every word of a record comes through here, and half of them have another upper half than the word before: so it is
 * always looked up, in one place, and where a group is filled whole, the places of its entries are in the code itself.
 * What changes from word to word is in locals, so that compilers keep it in registers.
 */

#include "ptap_pack.h"

#define CODE(code) ((uint32_t)(code) << 28)

/* Fibonacci hashing, as in ptap_plan.h. */
#define HASH(high) ((uint32_t)(high) * 0x9e3779b1u >> 22)
_Static_assert(PTAP_HIGH_PLACES == 1 << 10, "HASH");
#define PLACE_OF_OTHERS PTAP_HIGH_PLACES
#define PLACE_OF_NOTHING (PTAP_HIGH_PLACES + 1)

void ptap_pack_begin(struct ptap_writer *writer, void *to, uint32_t runs, uint32_t words)
{
	struct ptap_packer *packer = &writer->packer;
	struct ptap_highs *highs = &writer->highs;

	writer->run = (struct ptap_run_told *)to;
	writer->run_end = 0;
	writer->words = 0;
	packer->group = (uint32_t *)to + runs;
	packer->codes = 0;
	packer->inside = 0;
	for (uint32_t index = 0; index < PTAP_HIGHS_TOLD && index < highs->count; index++) {
		uint32_t place = highs->used[index];

		highs->halves[place] = highs->codes[place] = 0;
	}
	highs->halves[HASH(UINT32_MAX)] = UINT32_MAX;
	highs->codes[HASH(UINT32_MAX)] = CODE(PTAP_HIGH_ONES);
	highs->codes[PLACE_OF_OTHERS] = CODE(PTAP_HIGH_OTHER);
	highs->codes[PLACE_OF_NOTHING] = 0;
	highs->told = packer->group + PTAP_GROUP_UNITS(words);
	highs->count = 0;
}

/* As place_of_half, where another half has the place, or all codes are given. */
static __attribute__((__noinline__)) uint32_t search_half(struct ptap_highs *highs, uint32_t high)
{
	uint32_t index, place = HASH(high);

	if (!high)
		return PLACE_OF_NOTHING;
	if (high == UINT32_MAX) {
		highs->halves[place] = high;
		highs->codes[place] = CODE(PTAP_HIGH_ONES);
		return place;
	}
	for (index = 0; index < PTAP_HIGHS_TOLD && index < highs->count; index++) {
		if (highs->told[index] == high)
			break;
	}
	if (index == PTAP_HIGHS_TOLD || index == highs->count)
		highs->told[highs->count++] = high;
	if (index == PTAP_HIGHS_TOLD)
		return PLACE_OF_OTHERS;
	highs->used[index] = (uint16_t)place;
	highs->halves[place] = high;
	highs->codes[place] = CODE(PTAP_HIGH_TOLD + index);
	return place;
}

/* The place of the code of an upper half that is not where it should be; most come there first. */
static __attribute__((__noinline__)) uint32_t place_of_half(struct ptap_highs *highs, uint32_t high)
{
	uint32_t count = highs->count, place = HASH(high);

	if (highs->halves[place] || count >= PTAP_HIGHS_TOLD)
		return search_half(highs, high);
	highs->told[count] = high;
	highs->used[count] = (uint16_t)place;
	highs->count = count + 1;
	highs->halves[place] = high;
	highs->codes[place] = CODE(PTAP_HIGH_TOLD + count);
	return place;
}

/* Pack the word that is entry `number` of the group. */
#define PACK_WORD(number) \
	do { \
		uint64_t word = words[number]; \
		uint32_t high = (uint32_t)(word >> 32), place = HASH(high); \
		if (__builtin_expect(highs->halves[place] != high, 0)) \
			place = place_of_half(highs, high); \
		codes = codes >> 4 | highs->codes[place]; \
		group[1 + (number)] = (uint32_t)word; \
	} while (0)

#define FALL_THROUGH __attribute__((__fallthrough__))

void ptap_pack_words(struct ptap_writer *writer, const uint64_t *from, uint32_t count)
{
	uint32_t *group = writer->packer.group, codes = writer->packer.codes, inside = writer->packer.inside;
	/* As if the words of this group had all been here: entry n is of words[n]. */
	const volatile uint64_t *words = from - inside;
	struct ptap_highs *highs = &writer->highs;
	uint32_t end = inside + count;

	writer->words += count;
	while (end >= PTAP_GROUP_ENTRIES) {
		switch (inside) {
		case 0:
			PACK_WORD(0);
			FALL_THROUGH;
		case 1:
			PACK_WORD(1);
			FALL_THROUGH;
		case 2:
			PACK_WORD(2);
			FALL_THROUGH;
		case 3:
			PACK_WORD(3);
			FALL_THROUGH;
		case 4:
			PACK_WORD(4);
			FALL_THROUGH;
		case 5:
			PACK_WORD(5);
			FALL_THROUGH;
		case 6:
			PACK_WORD(6);
			FALL_THROUGH;
		case 7:
			PACK_WORD(7);
		}
		*group = codes;
		group += PTAP_GROUP_ENTRIES + 1;
		words += PTAP_GROUP_ENTRIES;
		end -= PTAP_GROUP_ENTRIES;
		inside = 0;
	}
	for (; inside < end; inside++)
		PACK_WORD(inside);
	writer->packer = (struct ptap_packer){ group, codes, inside };
}

void ptap_run_begin(struct ptap_writer *writer, uint64_t address)
{
	uint64_t gap = (address - writer->run_end) / 8;

	/* What lies before the end of the run before is far, too. */
	if (gap >= PTAP_GAP_FAR) {
		gap = PTAP_GAP_FAR;
		ptap_pack_words(writer, &address, 1);
	}
	writer->run->gap = (uint16_t)gap;
	writer->run_end = address;
}

void *ptap_pack_end(struct ptap_writer *writer)
{
	struct ptap_packer *packer = &writer->packer;
	const uint32_t *told = writer->highs.told, *end = told + writer->highs.count;
	uint32_t *to = packer->group;

	/* Or a group was begun that has nothing. */
	if (packer->inside) {
		*to = packer->codes >> 4 * (PTAP_GROUP_ENTRIES - packer->inside);
		to += 1 + packer->inside;
	}
	while (told < end)
		*to++ = *told++;
	return to;
}
