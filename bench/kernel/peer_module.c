// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Probes vfs_read, and has the kernel's own unwinder walk there: how, `walker` says. Nothing is recorded. */

#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/stacktrace.h>
#include <asm/unwind.h>

#define FRAMES 64

enum { NOTHING, SAVED, BARE };

static int walker = NOTHING;
module_param(walker, int, 0400);
static int room = FRAMES;
module_param(room, int, 0400);

static unsigned long found[FRAMES];

/* No more than what a loop over frames needs: the addresses, as stack_trace_save would give them. */
static void walk_bare(struct pt_regs *regs)
{
	struct unwind_state state;
	int count = 0;

	for (unwind_start(&state, current, regs, NULL); !unwind_done(&state) && count < room; unwind_next_frame(&state))
		found[count++] = unwind_get_return_address(&state);
}

static int entered(struct kprobe *kprobe, struct pt_regs *regs)
{
	if (walker == SAVED)
		stack_trace_save(found, room, 0);
	else if (walker == BARE)
		walk_bare(regs);
	return 0;
}

static struct kprobe probe = { .symbol_name = "vfs_read", .pre_handler = entered };

static int __init peer_init(void)
{
	return room < 1 || room > FRAMES ? -EINVAL : register_kprobe(&probe);
}

static void __exit peer_exit(void)
{
	unregister_kprobe(&probe);
}

module_init(peer_init);
module_exit(peer_exit);
MODULE_LICENSE("Dual BSD/GPL");
MODULE_DESCRIPTION("What the kernel's own unwinder takes at a probe");
