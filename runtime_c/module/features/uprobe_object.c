// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A registered probe of a program is an object, which all that concerns it takes. */
#include <linux/uprobes.h>

struct uprobe *registered(struct inode *inode, struct uprobe_consumer *consumer);

struct uprobe *registered(struct inode *inode, struct uprobe_consumer *consumer)
{
	struct uprobe *uprobe = uprobe_register(inode, 0, 0, consumer);

	uprobe_unregister_nosync(uprobe, consumer);
	uprobe_unregister_sync();
	return uprobe;
}
