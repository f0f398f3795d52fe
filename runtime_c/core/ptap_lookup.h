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

#endif
