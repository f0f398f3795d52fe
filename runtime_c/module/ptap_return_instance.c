// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The list is the task's own, and only it changes it: at a probe it stands still, though not always at rest. */

#include <linux/kprobes.h>
#include <linux/uaccess.h>
#include <linux/uprobes.h>

#include "ptap_return_instance.h"

#define MOST_INSTANCES 128

/*
 * The instance at *at, which moves on; 0 at the end. A node that the kernel has just freed, while it handles a return,
 * may still be in the list: reading it cannot fault, and one that speaks of no place of the stack is of no use.
 */
static int next_instance(const struct return_instance **at, struct return_instance *copy)
{
	if (!*at || copy_from_kernel_nofault(copy, *at, sizeof(*copy)))
		return 0;
	*at = copy->next;
	return 1;
}
NOKPROBE_SYMBOL(next_instance);

u64 ptap_return_found(u64 address, u64 value)
{
	const struct return_instance *at = READ_ONCE(current->utask->return_instances);
	struct return_instance instance;
	int index;

	for (index = 0; index < MOST_INSTANCES && next_instance(&at, &instance); index++) {
		if (instance.stack == address && instance.orig_ret_vaddr < TASK_SIZE)
			return instance.orig_ret_vaddr;
	}
	return value;
}
NOKPROBE_SYMBOL(ptap_return_found);

void ptap_return_replace_all(u64 address, u64 *words, u32 count)
{
	const struct return_instance *at = current->utask ? READ_ONCE(current->utask->return_instances) : NULL;
	struct return_instance instance;
	int index;

	for (index = 0; index < MOST_INSTANCES && next_instance(&at, &instance); index++) {
		u64 number = (instance.stack - address) / 8;

		if (instance.stack >= address && number < count && instance.orig_ret_vaddr < TASK_SIZE &&
		    words[number] && !(words[number] & ~PAGE_MASK))
			words[number] = instance.orig_ret_vaddr;
	}
}
NOKPROBE_SYMBOL(ptap_return_replace_all);
