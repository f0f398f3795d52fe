/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The checksum of a table: for a loader that takes tables from elsewhere. Freestanding. */
#ifndef PTAP_CHECKSUM_H
#define PTAP_CHECKSUM_H

#include "ptap_table.h"

/* Whether the table of `size` bytes, which ptap_check_table has found sound, is as it was made. */
int ptap_checksum_holds(const uint8_t *table, uint64_t size);

#endif
