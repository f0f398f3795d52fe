/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How the walk reads the stack: through one function that its user gives. */
#ifndef PTAP_MEMORY_H
#define PTAP_MEMORY_H

#include "ptap_table.h"

/* What reading a word came to. */
enum ptap_read {
	PTAP_READ_DONE = 0,
	PTAP_READ_NOT_CAPTURED = 1,
	PTAP_READ_BEYOND_CUT = 2, /* the capture's size limit ended the memory before it */
};

struct ptap_memory {
	/* Put the little-endian unsigned integer of `size` bytes (1 to 8) at `address` into `value`. */
	enum ptap_read (*read)(void *context, uint64_t address, uint32_t size, uint64_t *value);
	void *context;
};

#endif
