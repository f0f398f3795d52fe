// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* CRC-32 as zlib has it (ISO/IEC 8802-3, reflected), half a byte at a time: a table is checked once. */

#include "ptap_checksum.h"

#define POLYNOMIAL 0xedb88320u
#define HALVES 16

static uint32_t step_of(uint32_t half)
{
	for (int bit = 0; bit < 4; bit++)
		half = half & 1 ? half >> 1 ^ POLYNOMIAL : half >> 1;
	return half;
}

int ptap_checksum_holds(const uint8_t *table, uint64_t size)
{
	const uint64_t place = __builtin_offsetof(struct ptap_header, checksum);
	const struct ptap_header *header = (const void *)table;
	uint32_t steps[HALVES], checksum = ~0u;

	for (uint32_t half = 0; half < HALVES; half++)
		steps[half] = step_of(half);
	for (uint64_t at = 0; at < size; at++) {
		/* It is computed with zero in its own place. */
		checksum ^= at - place < sizeof(header->checksum) ? 0 : table[at];
		checksum = checksum >> 4 ^ steps[checksum & 15];
		checksum = checksum >> 4 ^ steps[checksum & 15];
	}
	return ~checksum == header->checksum;
}
