// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The other file of the module that is probed. */

#include <linux/compiler.h>

#include "ptap_probed.h"

int ptap_probed_factor = 5;

static noinline int twice(int value)
{
	return value + READ_ONCE(ptap_probed_factor);
}

int ptap_probed_other(int value)
{
	return twice(value) - 1;
}
