/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a loader checks once in a table, so that lookups need not: the C twin of cfi_tables/table_check.py.
 *
 * Freestanding: no library, no allocation, time in proportion to the table.
 */
#ifndef PTAP_CHECK_H
#define PTAP_CHECK_H

#include "ptap_table.h"

enum ptap_table_fault {
	PTAP_TABLE_SOUND = 0,
	PTAP_TABLE_SHORT, /* shorter than its header */
	PTAP_TABLE_FOREIGN, /* no table, of another format, or of another machine than this core walks */
	PTAP_TABLE_SIZE, /* not what its header says */
	PTAP_TABLE_COUNTS, /* counts do not agree, or the text range is impossible */
	PTAP_TABLE_PARTS, /* a part lies outside of the table */
	PTAP_TABLE_INDEX, /* out of order */
	PTAP_TABLE_STATES, /* a state is damaged, or its record and successors overlap another's or lie outside */
	PTAP_TABLE_DELTAS, /* the code of a delta is damaged */
	PTAP_TABLE_SUCCESSORS, /* one's code is damaged, it is no rule, or names a class of deltas that is not there */
	PTAP_TABLE_RULES, /* of an unknown kind, or of a register that no walk has */
	PTAP_TABLE_LISTS, /* a register list lies outside of the table */
	PTAP_TABLE_EXPRESSIONS, /* an expression lies outside of the table */
};

/*
 * Whether every part of the table of `size` bytes, which is 8-byte aligned, and every reference in it lies inside.
 *
 * Its checksum is another check (ptap_checksum.h): that guards against damage, this against reading out of bounds.
 */
enum ptap_table_fault ptap_check_table(const uint8_t *table, uint64_t size);

#endif
