// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Packs what stands in the input as the module packs a record, in memory of the size that it asks for, and prints it.
 * Of each record: the number of its runs and of its words, the words, then of each run its address, the number of its
 * words and these; all but the numbers are hexadecimal.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "ptap_pack.h"

static uint64_t next_word(void)
{
	uint64_t word;

	if (scanf("%" SCNx64, &word) != 1)
		exit(2);
	return word;
}

static uint64_t *next_words(uint32_t count)
{
	uint64_t *words = calloc(count ? count : 1, sizeof(*words));

	for (uint32_t index = 0; index < count; index++)
		words[index] = next_word();
	return words;
}

static void print(const uint8_t *from, const uint8_t *end)
{
	for (; from < end; from++)
		printf("%02x", *from);
	printf("\n");
}

int main(void)
{
	const uint64_t nothing = 0;
	static struct ptap_writer writer;
	uint32_t runs, count;

	while (scanf("%" SCNu32 " %" SCNu32, &runs, &count) == 2) {
		uint64_t *words = next_words(count), **run_words = calloc(runs + 1, sizeof(*run_words));
		uint64_t *addresses = calloc(runs + 1, sizeof(*addresses));
		uint32_t *counts = calloc(runs + 1, sizeof(*counts)), all = (count < 2 ? 2 : count) + runs;
		uint8_t *room;

		for (uint32_t run = 0; run < runs; run++) {
			addresses[run] = next_word();
			if (scanf("%" SCNu32, &counts[run]) != 1)
				return 2;
			run_words[run] = next_words(counts[run]);
			all += counts[run];
		}
		room = malloc(runs * sizeof(struct ptap_run_told) + PTAP_PACKED_BYTES(all));
		ptap_pack_begin(&writer, room, runs, all);
		ptap_pack_words(&writer, count > 0 ? words : &nothing, 1);
		ptap_pack_words(&writer, count > 1 ? words + 1 : &nothing, 1);
		if (count > 2)
			ptap_pack_words(&writer, words + 2, count - 2);
		for (uint32_t run = 0; run < runs; run++) {
			ptap_run_begin(&writer, addresses[run]);
			ptap_pack_words(&writer, run_words[run], counts[run]);
			ptap_run_end(&writer, counts[run]);
			free(run_words[run]);
		}
		print(room, ptap_pack_end(&writer));
		free(room);
		free(counts);
		free(addresses);
		free(run_words);
		free(words);
	}
	return 0;
}
