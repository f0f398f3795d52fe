/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Lookup in a compact unwind table: the C twin of cfi_tables/lookup.py.
 *
 * Freestanding: no library, no allocation, bounded time. Runs in the probe, and in user space for tests.
 */
#ifndef PTAP_LOOKUP_H
#define PTAP_LOOKUP_H

#include "ptap_table.h"

/*
 * The byte offset, from the start of `table`, of the rule record in force at `pc`; -1 when there is none: `pc` is
 * outside of the table's text range, or in a gap.
 *
 * `table` holds `size` bytes, is 8-byte aligned and was checked when it was loaded; blocks are read within
 * their bounds whatever they hold. `pc` is a file virtual address: of a return address, the caller gives pc - 1.
 */
int32_t ptap_find_rule(const uint8_t *table, uint32_t size, uint64_t pc);

/*
 * A list by which blocks are found sooner, where a table is large and looked up in often: of each page of the text, from
 * its start rounded down to PTAP_DELTA_ALIGNMENT on, the last block that begins at or before the page.
 */
#define PTAP_PAGE_BITS 12

/* How many elements the list for a checked table has: one for the page behind the last one, too. */
uint32_t ptap_page_count(const uint8_t *table);
void ptap_list_pages(const uint8_t *table, uint32_t *pages);

/* As ptap_find_rule, by the list of that table's pages; without one where it is null. */
int32_t ptap_find_rule_by_page(const uint8_t *table, uint32_t size, uint64_t pc, const uint32_t *pages);

#endif
