// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A task has a list of the return addresses that were replaced on its stack. */
#include <linux/rethook.h>
#include <linux/sched.h>

unsigned long first_frame(struct task_struct *task);

unsigned long first_frame(struct task_struct *task)
{
	struct rethook_node *node = container_of(task->rethooks.first, struct rethook_node, llist);

	return node->frame + node->ret_addr;
}
