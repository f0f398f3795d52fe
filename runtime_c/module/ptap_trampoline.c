// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Where the kernel keeps the replaced return addresses in a list of the task, it has those of all return probes. */

#include <linux/kprobes.h>
#include <linux/sched.h>
#ifdef PTAP_HAS_TASK_RETHOOKS
#include <linux/rethook.h>
#endif

#include "ptap_trampoline.h"
#include "ptap_x86_64.h"

#ifdef PTAP_HAS_TASK_RETHOOKS
#define MAXIMUM_NODES 1024

u64 ptap_trampoline_replaced(u64 address, u64 trampoline)
{
	struct llist_node *at = READ_ONCE(current->rethooks.first);
	int index;

	for (index = 0; at && index < MAXIMUM_NODES; index++, at = READ_ONCE(at->next)) {
		struct rethook_node *node = container_of(at, struct rethook_node, llist);

		if (ptap_rethook_place(node->frame) == address)
			return node->ret_addr;
	}
	return trampoline;
}
#else
u64 ptap_trampoline_replaced(u64 address, u64 trampoline)
{
	return trampoline;
}
#endif
NOKPROBE_SYMBOL(ptap_trampoline_replaced);
