// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Where the kernel keeps the replaced return addresses in a list of the task, it has those of all return probes. */

#include <linux/hash.h>
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
NOKPROBE_SYMBOL(ptap_trampoline_replaced);

void ptap_trampoline_note(u64 place, u64 address)
{
}

void ptap_trampoline_forget(u64 place)
{
}
#else
/* The kernel's own list is out of reach: those of our probes are kept here, in slots that hash of a task and a place. */
#define SLOT_BITS 12
#define TRIES 16

struct slot {
	struct task_struct *task; /* null: free */
	u64 place;
	u64 address;
};

static struct slot slots[1 << SLOT_BITS];

/* In place of a task while a slot is filled: nobody's. */
#define TAKEN ((struct task_struct *)1)

static struct slot *slot_at(u64 place, u32 try)
{
	u32 first = hash_64((u64)(unsigned long)current ^ place, SLOT_BITS);

	return &slots[(first + try) & ((1 << SLOT_BITS) - 1)];
}

/* The slot of the current task for `place`, or null. No other task's processor changes it. */
static struct slot *find_slot(u64 place)
{
	u32 try;

	for (try = 0; try < TRIES; try++) {
		struct slot *slot = slot_at(place, try);

		if (smp_load_acquire(&slot->task) == current && slot->place == place)
			return slot;
	}
	return NULL;
}
NOKPROBE_SYMBOL(find_slot);

u64 ptap_trampoline_replaced(u64 address, u64 trampoline)
{
	const struct slot *slot = find_slot(address);

	return slot ? slot->address : trampoline;
}
NOKPROBE_SYMBOL(ptap_trampoline_replaced);

void ptap_trampoline_note(u64 place, u64 address)
{
	struct slot *slot = find_slot(place);
	u32 try;

	/* One that a function has left without a return, as the end of a task does. */
	if (slot) {
		slot->address = address;
		return;
	}
	for (try = 0; try < TRIES; try++) {
		slot = slot_at(place, try);
		if (!slot->task && !cmpxchg(&slot->task, NULL, TAKEN)) {
			slot->place = place;
			slot->address = address;
			smp_store_release(&slot->task, current);
			return;
		}
	}
}
NOKPROBE_SYMBOL(ptap_trampoline_note);

void ptap_trampoline_forget(u64 place)
{
	struct slot *slot = find_slot(place);

	if (slot)
		smp_store_release(&slot->task, NULL);
}
NOKPROBE_SYMBOL(ptap_trampoline_forget);
#endif
