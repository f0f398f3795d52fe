// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * /proc/ptap_kernel, root's only: `control` takes messages, `status` tells of the session, `cpuN` gives records.
 *
 * It is in procfs, which every system has: debugfs may be not mounted, or locked down.
 */

#include <linux/cpumask.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>

#include "ptap_control.h"
#include "ptap_module.h"
#include "ptap_probe.h"
#include "ptap_record.h"
#include "ptap_run.h"
#include "ptap_session.h"
#include "ptap_space.h"
#include "ptap_target.h"
#include "ptap_user_probe.h"
#include "ptap_when.h"

#define LONGEST_MESSAGE (64u << 20)

static struct proc_dir_entry *folder;

static int handle(const struct ptap_message_header *message, size_t size)
{
	const void *body = message + 1;

	if (message->magic != PTAP_MESSAGE_MAGIC || message->version != PTAP_RECORD_VERSION)
		return ptap_refuse(-EPROTO, "not a message of version %d", PTAP_RECORD_VERSION);
	size -= sizeof(*message);
	/* What is told of processes is told as they come. */
	switch (message->kind) {
	case PTAP_MESSAGE_KIND_USER_TABLE:
		return ptap_space_add_table(body, size);
	case PTAP_MESSAGE_KIND_SPACE:
		return ptap_space_tell(body, size);
	case PTAP_MESSAGE_KIND_TARGET:
		return ptap_target_tell(body, size);
	}
	if (ptap_session.state != PTAP_CONFIGURING && message->kind != PTAP_MESSAGE_KIND_STOP)
		return ptap_refuse(-EBUSY, "the session was started before; load the module again");
	switch (message->kind) {
	case PTAP_MESSAGE_KIND_ANCHOR:
		return ptap_run_add_anchor(body, size);
	case PTAP_MESSAGE_KIND_TABLE:
		return ptap_run_add_table(body, size);
	case PTAP_MESSAGE_KIND_TRAMPOLINE:
		return ptap_run_add_trampoline(body, size);
	case PTAP_MESSAGE_KIND_PROBE:
		return ptap_probe_add(body, size);
	case PTAP_MESSAGE_KIND_PREDICATE:
		return ptap_when_add(body, size);
	case PTAP_MESSAGE_KIND_MODULE:
		return ptap_module_add(body, size);
	case PTAP_MESSAGE_KIND_PLACEMENT:
		return ptap_module_place(body, size);
	case PTAP_MESSAGE_KIND_START:
		return ptap_run_start(body, size);
	case PTAP_MESSAGE_KIND_STOP:
		if (size)
			return ptap_refuse(-EINVAL, "a stop with %zu bytes behind it", size);
		ptap_run_stop();
		return 0;
	}
	return ptap_refuse(-EPROTO, "a message of the unknown kind %u", message->kind);
}

static int take(const char __user *buffer, size_t size)
{
	void *message;
	int error;

	if (size < sizeof(struct ptap_message_header) || size > LONGEST_MESSAGE)
		return ptap_refuse(-EMSGSIZE, "no message has %zu bytes", size);
	message = kvmalloc(size, GFP_KERNEL);
	if (!message)
		return ptap_refuse(-ENOMEM, "no memory for a message of %zu bytes", size);
	if (copy_from_user(message, buffer, size))
		error = ptap_refuse(-EFAULT, "the message cannot be read");
	else
		error = handle(message, size);
	kvfree(message);
	return error;
}

/* One message a write, whole. */
static ssize_t control_write(struct file *file, const char __user *buffer, size_t size, loff_t *position)
{
	int error;

	mutex_lock(&ptap_session.lock);
	ptap_session.error[0] = '\0';
	error = take(buffer, size);
	mutex_unlock(&ptap_session.lock);
	return error ? error : (ssize_t)size;
}

static const struct proc_ops control_ops = {
	.proc_write = control_write,
};

static int status_show(struct seq_file *file, void *unused)
{
	static const char *const states[] = { "configuring", "started", "stopped" };
	unsigned int number;

	mutex_lock(&ptap_session.lock);
	seq_printf(file, "state %s\n", states[ptap_session.state]);
	if (ptap_session.error[0])
		seq_printf(file, "error %s\n", ptap_session.error);
	seq_printf(file, "slide %#llx\n", ptap_session.slide);
	for (number = 0; ptap_session.cpus && number < nr_cpu_ids; number++) {
		const struct ptap_cpu *cpu = ptap_session.cpus[number];

		if (cpu)
			seq_printf(file, "cpu %u hits %llu dropped %llu unwanted %llu others %llu\n", number,
				   READ_ONCE(cpu->hits) + ptap_target_others(number), READ_ONCE(cpu->dropped),
				   READ_ONCE(cpu->unwanted), ptap_target_others(number));
	}
	ptap_target_show(file);
	ptap_module_show(file);
	ptap_probe_show(file);
	ptap_user_probe_show(file);
	mutex_unlock(&ptap_session.lock);
	return 0;
}

/* Records of one CPU. A read gives whole ones, and nothing at all while there is none. */
static ssize_t cpu_read(struct file *file, char __user *buffer, size_t room, loff_t *position)
{
	unsigned long number = (unsigned long)file->private_data;
	struct ptap_cpu *cpu;
	ssize_t result = 0;

	/* Cleared only when these files are gone. */
	mutex_lock(&ptap_session.lock);
	cpu = ptap_session.cpus && ptap_session.state != PTAP_CONFIGURING ? ptap_session.cpus[number] : NULL;
	mutex_unlock(&ptap_session.lock);
	if (!cpu)
		return 0;
	if (mutex_lock_interruptible(&cpu->ring.reader))
		return -EINTR;
	result = ptap_ring_read(&cpu->ring, buffer, room);
	mutex_unlock(&cpu->ring.reader);
	return result;
}

static int cpu_open(struct inode *inode, struct file *file)
{
	unsigned long number;
	int error = kstrtoul(file->f_path.dentry->d_name.name + strlen("cpu"), 10, &number);

	if (error || number >= nr_cpu_ids)
		return -ENOENT;
	file->private_data = (void *)number;
	return nonseekable_open(inode, file);
}

static const struct proc_ops cpu_ops = {
	.proc_open = cpu_open,
	.proc_read = cpu_read,
};

int ptap_control_create(void)
{
	unsigned int number;
	char name[16];

	folder = proc_mkdir_mode(KBUILD_MODNAME, 0500, NULL);
	if (!folder)
		return -ENOMEM;
	if (!proc_create("control", 0200, folder, &control_ops) ||
	    !proc_create_single("status", 0400, folder, status_show))
		goto failed;
	for_each_possible_cpu(number) {
		snprintf(name, sizeof(name), "cpu%u", number);
		if (!proc_create(name, 0400, folder, &cpu_ops))
			goto failed;
	}
	return 0;
failed:
	ptap_control_remove();
	return -ENOMEM;
}

void ptap_control_remove(void)
{
	/* Waits for those that are in one of the files. */
	proc_remove(folder);
}
