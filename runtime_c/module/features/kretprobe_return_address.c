// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The return address of an instance is asked for by a function. */
#include <linux/kprobes.h>

unsigned long return_address(struct kretprobe_instance *instance);

unsigned long return_address(struct kretprobe_instance *instance)
{
	return get_kretprobe_retaddr(instance);
}
