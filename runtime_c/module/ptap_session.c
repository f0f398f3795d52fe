// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The state of the session, and what everything that works on it says and counts. */

#include <linux/atomic.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>

#include "ptap_session.h"

struct ptap_session ptap_session = {
	.lock = __MUTEX_INITIALIZER(ptap_session.lock),
};

int ptap_refuse(int error, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vscnprintf(ptap_session.error, sizeof(ptap_session.error), format, arguments);
	va_end(arguments);
	return error;
}

u32 ptap_next_generation(void)
{
	static atomic_t last = ATOMIC_INIT(0);

	return atomic_inc_return(&last);
}
NOKPROBE_SYMBOL(ptap_next_generation);
