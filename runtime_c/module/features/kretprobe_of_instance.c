// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The return probe of an instance is asked for by a function. */
#include <linux/kprobes.h>

struct kretprobe *of_instance(struct kretprobe_instance *instance);

struct kretprobe *of_instance(struct kretprobe_instance *instance)
{
	return get_kretprobe(instance);
}
