// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Probes in programs. Their handlers run in the task's own context, which may sleep; a hit does not. */

#include <linux/err.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/namei.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uprobes.h>

#include "ptap_hit.h"
#include "ptap_record.h"
#include "ptap_session.h"
#include "ptap_user_probe.h"

struct user_probe {
	struct list_head all;
	struct uprobe_consumer consumer;
	struct inode *inode; /* held; null where it is not registered */
#ifdef PTAP_HAS_UPROBE_OBJECT
	struct uprobe *uprobe;
#endif
	u64 offset;
	u32 number;
	char path[sizeof(((struct ptap_probe_message *)0)->symbol)];
};

static LIST_HEAD(probes);

#ifdef PTAP_HAS_UPROBE_DATA
#define DATA , __u64 *data
#else
#define DATA
#endif

static int program_entered(struct uprobe_consumer *consumer, struct pt_regs *regs DATA)
{
	ptap_hit(container_of(consumer, struct user_probe, consumer)->number, regs, regs->ip, 0);
	return 0;
}

/* The kernel has put the real return address into `regs`. */
static int program_returned(struct uprobe_consumer *consumer, unsigned long function, struct pt_regs *regs DATA)
{
	ptap_hit(container_of(consumer, struct user_probe, consumer)->number, regs, regs->ip,
		 PTAP_HIT_FLAG_RETURN_PROBE);
	return 0;
}

int ptap_user_probe_add(const struct ptap_probe_message *message)
{
	struct user_probe *probe = kzalloc(sizeof(*probe), GFP_KERNEL);

	if (!probe)
		return ptap_refuse(-ENOMEM, "no memory for a probe");
	memcpy(probe->path, message->symbol, sizeof(probe->path));
	probe->offset = message->offset;
	probe->number = message->number;
	if (message->kind == PTAP_PROBE_KIND_USER_RETURN)
		probe->consumer.ret_handler = program_returned;
	else
		probe->consumer.handler = program_entered;
	list_add_tail(&probe->all, &probes);
	return 0;
}

static int register_at(struct user_probe *probe)
{
#ifdef PTAP_HAS_UPROBE_OBJECT
	probe->uprobe = uprobe_register(probe->inode, probe->offset, 0, &probe->consumer);
	return IS_ERR(probe->uprobe) ? PTR_ERR(probe->uprobe) : 0;
#else
	return uprobe_register(probe->inode, probe->offset, &probe->consumer);
#endif
}

static int register_one(struct user_probe *probe)
{
	struct path path;
	int error = kern_path(probe->path, LOOKUP_FOLLOW, &path);

	if (error)
		return ptap_refuse(error, "%s cannot be found (error %d)", probe->path, error);
	if (!S_ISREG(d_inode(path.dentry)->i_mode)) {
		path_put(&path);
		return ptap_refuse(-EINVAL, "%s is no regular file", probe->path);
	}
	probe->inode = igrab(d_real_inode(path.dentry));
	path_put(&path);
	error = probe->inode ? register_at(probe) : -ENOENT;
	if (!error)
		return 0;
	iput(probe->inode);
	probe->inode = NULL;
	return ptap_refuse(error, "probe %u: the kernel does not probe %s at byte %#llx (error %d)", probe->number,
			   probe->path, probe->offset, error);
}

int ptap_user_probe_register_all(void)
{
	struct user_probe *probe;

	list_for_each_entry(probe, &probes, all) {
		int error = register_one(probe);

		if (error) {
			ptap_user_probe_unregister_all();
			return error;
		}
	}
	return 0;
}

void ptap_user_probe_unregister_all(void)
{
	struct user_probe *probe;

	list_for_each_entry(probe, &probes, all) {
		if (!probe->inode)
			continue;
#ifdef PTAP_HAS_UPROBE_OBJECT
		uprobe_unregister_nosync(probe->uprobe, &probe->consumer);
#else
		uprobe_unregister(probe->inode, probe->offset, &probe->consumer);
#endif
	}
#ifdef PTAP_HAS_UPROBE_OBJECT
	uprobe_unregister_sync();
#endif
	list_for_each_entry(probe, &probes, all) {
		iput(probe->inode);
		probe->inode = NULL;
	}
}

void ptap_user_probe_free_all(void)
{
	struct user_probe *probe, *next;

	list_for_each_entry_safe(probe, next, &probes, all)
		kfree(probe);
	INIT_LIST_HEAD(&probes);
}

void ptap_user_probe_show(struct seq_file *file)
{
	struct user_probe *probe;

	list_for_each_entry(probe, &probes, all)
		seq_printf(file, "probe %u %s at byte %#llx\n", probe->number, probe->path, probe->offset);
}
