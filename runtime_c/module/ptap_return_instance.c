// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The list is the task's own, and only it changes it: at a probe it stands still, though not always at rest. */

#include <linux/kprobes.h>
#include <linux/sched/task_stack.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/uprobes.h>

#include "ptap_return_instance.h"
#include "ptap_x86_64.h"

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

/* Put the instance's return address into the copy where there is the start of a page in its place. */
static void put_back(const struct return_instance *instance, u64 address, u8 *copy, u32 size, u32 width)
{
	u64 at = instance->stack - address, value = 0;

	if (instance->stack < address || size < width || at > size - width || instance->orig_ret_vaddr >= TASK_SIZE)
		return;
	/* Of a narrow one the lower half, which comes first. */
	memcpy(&value, copy + at, width);
	if (value && !(value & ~PAGE_MASK))
		memcpy(copy + at, &instance->orig_ret_vaddr, width);
}
NOKPROBE_SYMBOL(put_back);

void ptap_return_replace_all(u64 address, void *copy, u32 size)
{
	const struct return_instance *at = current->utask ? READ_ONCE(current->utask->return_instances) : NULL;
	u32 width = at && ptap_are_narrow(task_pt_regs(current)) ? sizeof(u32) : sizeof(u64);
	struct return_instance instance;
	int index;

	for (index = 0; index < MOST_INSTANCES && next_instance(&at, &instance); index++)
		put_back(&instance, address, copy, size, width);
}
NOKPROBE_SYMBOL(ptap_return_replace_all);
