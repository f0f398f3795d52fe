/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which memory a walk has read, as runs of words that grow while it goes. It reads mostly upwards, so what comes next
 * follows the last run or begins one.
 */
#ifndef PTAP_NOTED_H
#define PTAP_NOTED_H

#include "ptap_integers.h"

/* What comes behind a run by no more than this is added to it: every run costs time and a few bytes. */
#define PTAP_RUN_GAP 16

/* How many runs a word that was read out of order is looked for in. */
#define PTAP_RUNS_BACK 4

struct ptap_run {
	uint64_t begin;
	uint64_t end; /* first address behind it */
};

struct ptap_noted {
	struct ptap_run *runs;
	uint32_t count;
	uint32_t room; /* of `runs` */
	uint32_t left_out; /* words for which there was no room */
};

static inline void ptap_note_apart(struct ptap_noted *noted, uint64_t begin, uint64_t end)
{
	if (noted->count >= noted->room) {
		noted->left_out += (uint32_t)(end - begin) / 8;
		return;
	}
	noted->runs[noted->count].begin = begin;
	noted->runs[noted->count].end = end;
	noted->count++;
}

/* The words of [begin, end) were read, in the order of a walk. */
static inline void ptap_note_words(struct ptap_noted *noted, uint64_t begin, uint64_t end)
{
	struct ptap_run *last = noted->runs + noted->count - 1;

	if (noted->count && begin - last->end <= PTAP_RUN_GAP)
		last->end = end;
	else
		ptap_note_apart(noted, begin, end);
}

/* One word was read, in any order. */
static inline void ptap_note_word(struct ptap_noted *noted, uint64_t address)
{
	uint32_t last = noted->count > PTAP_RUNS_BACK ? noted->count - PTAP_RUNS_BACK : 0;

	for (uint32_t index = noted->count; index-- > last;) {
		struct ptap_run *run = &noted->runs[index];

		if (address - run->begin < run->end - run->begin)
			return;
		if (address - run->end <= PTAP_RUN_GAP) {
			run->end = address + 8;
			return;
		}
		if (run->begin - (address + 8) <= PTAP_RUN_GAP) {
			run->begin = address;
			return;
		}
	}
	ptap_note_apart(noted, address, address + 8);
}

#endif
