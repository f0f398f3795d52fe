// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Handlers of a program's probe have a word that goes from the entry to the return. */
#include <linux/uprobes.h>

int handle(struct uprobe_consumer *consumer, struct pt_regs *regs, __u64 *data);
int call(struct uprobe_consumer *consumer, struct pt_regs *regs, __u64 *data);

int handle(struct uprobe_consumer *consumer, struct pt_regs *regs, __u64 *data)
{
	return 0;
}

int call(struct uprobe_consumer *consumer, struct pt_regs *regs, __u64 *data)
{
	consumer->handler = handle;
	return consumer->handler(consumer, regs, data);
}
