// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The target. The set is changed under a spinlock, by tracepoints of the scheduler; probes read it without. */

#include <linux/hash.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/tracepoint.h>

#include "ptap_event.h"
#include "ptap_record.h"
#include "ptap_session.h"
#include "ptap_target.h"

/* At most half of the slots are in use, so that few are looked at. */
#define SET_BITS 13
#define SET_SIZE (1u << SET_BITS)

/* In a slot that had a process: those behind it are still looked for past it. */
#define REMOVED ((const struct signal_struct *)1ul)

const struct signal_struct **ptap_target_set;
DEFINE_PER_CPU(u64, ptap_target_passed_over);

static DEFINE_RAW_SPINLOCK(set_lock); /* of changes */
static u32 count;
static u64 unfollowed; /* children for which there was no room */
static struct tracepoint *fork_point, *free_point; /* where they are followed */

static nokprobe_inline u32 home_of(const struct signal_struct *process)
{
	return hash_ptr(process, SET_BITS);
}

static nokprobe_inline u32 behind(u32 slot)
{
	return (slot + 1) % SET_SIZE;
}

/* The slot that holds `process`, or SET_SIZE. */
static nokprobe_inline u32 slot_of(const struct signal_struct *process)
{
	u32 slot = home_of(process), tries;

	for (tries = 0; tries < SET_SIZE; tries++, slot = behind(slot)) {
		const struct signal_struct *found = READ_ONCE(ptap_target_set[slot]);

		if (!found)
			break;
		if (found == process)
			return slot;
	}
	return SET_SIZE;
}

bool ptap_target_has_current(void)
{
	return slot_of(current->signal) != SET_SIZE;
}
NOKPROBE_SYMBOL(ptap_target_has_current);

/* With the lock held. */
static int insert(const struct signal_struct *process)
{
	u32 slot = home_of(process);

	if (slot_of(process) != SET_SIZE)
		return 0;
	if (count == PTAP_MAXIMUM_TARGETS)
		return -E2BIG;
	while (ptap_target_set[slot] && ptap_target_set[slot] != REMOVED)
		slot = behind(slot);
	WRITE_ONCE(ptap_target_set[slot], process);
	count++;
	return 0;
}

/* With the lock held. */
static void remove(const struct signal_struct *process)
{
	u32 slot = slot_of(process);

	if (slot == SET_SIZE)
		return;
	WRITE_ONCE(ptap_target_set[slot], REMOVED);
	count--;
	/* Nothing lies behind the last ones of a row: whoever looks for something else may stop there. */
	if (ptap_target_set[behind(slot)])
		return;
	for (; ptap_target_set[slot] == REMOVED; slot = (slot - 1) % SET_SIZE)
		WRITE_ONCE(ptap_target_set[slot], NULL);
}

static int join(const struct signal_struct *process)
{
	unsigned long flags;
	int error;

	raw_spin_lock_irqsave(&set_lock, flags);
	error = insert(process);
	raw_spin_unlock_irqrestore(&set_lock, flags);
	return error;
}

static void leave(const struct signal_struct *process)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&set_lock, flags);
	remove(process);
	raw_spin_unlock_irqrestore(&set_lock, flags);
}

/* The child does not run yet. */
static void forked(void *unused, struct task_struct *parent, struct task_struct *child)
{
	unsigned long flags;

	if (child->signal == parent->signal)
		return; /* a thread */
	raw_spin_lock_irqsave(&set_lock, flags);
	if (ptap_target_set && slot_of(parent->signal) != SET_SIZE && insert(child->signal))
		unfollowed++;
	raw_spin_unlock_irqrestore(&set_lock, flags);
}

/* A task runs no more, and is about to be freed: the last one of its process, if it has the process's number. */
static void freed(void *unused, struct task_struct *task)
{
	if (smp_load_acquire(&ptap_target_set) && task->pid == task->tgid)
		leave(task->signal);
}

static int follow(struct tracepoint **point, const char *name, void *function)
{
	struct tracepoint *found = ptap_tracepoint_find(name);
	int error = found ? tracepoint_probe_register(found, function, NULL) : -ENOENT;

	if (error)
		return ptap_refuse(error, "processes cannot be followed by the tracepoint %s (error %d)", name, error);
	*point = found;
	return 0;
}

static void unfollow(void)
{
	if (fork_point)
		tracepoint_probe_unregister(fork_point, (void *)forked, NULL);
	if (free_point)
		tracepoint_probe_unregister(free_point, (void *)freed, NULL);
	if (fork_point || free_point)
		tracepoint_synchronize_unregister();
	fork_point = NULL;
	free_point = NULL;
}

/* From now on the target is what is in the set, and nothing is in it. */
static int follow_processes(void)
{
	const struct signal_struct **set;
	int error;

	if (ptap_target_set)
		return 0;
	set = kvcalloc(SET_SIZE, sizeof(*set), GFP_KERNEL);
	if (!set)
		return ptap_refuse(-ENOMEM, "no memory for the processes that are to be traced");
	error = follow(&fork_point, "sched_process_fork", (void *)forked);
	if (!error)
		error = follow(&free_point, "sched_process_free", (void *)freed);
	if (error) {
		unfollow();
		kvfree(set);
		return error;
	}
	smp_store_release(&ptap_target_set, set);
	return 0;
}

/* `task` is held, which does not keep it from being freed() before it is known here. */
static int add(const struct task_struct *task)
{
	int error = join(task->signal);

	if (error)
		return ptap_refuse(error, "more than %d processes are to be traced", PTAP_MAXIMUM_TARGETS);
	/* Where it still has its number after it joined, freed() comes later. */
	smp_mb();
	if (pid_alive(task))
		return 0;
	leave(task->signal);
	return ptap_refuse(-ESRCH, "the process has ended");
}

int ptap_target_tell(const void *message, size_t size)
{
	const struct ptap_target_message *told = message;
	struct task_struct *task;
	struct pid *pid;
	int error;

	if (size != sizeof(*told))
		return ptap_refuse(-EINVAL, "a target of %zu bytes", size);
	error = follow_processes();
	if (error || !told->pid)
		return error;
	pid = find_get_pid(told->pid);
	task = get_pid_task(pid, PIDTYPE_PID);
	put_pid(pid);
	if (!task)
		return ptap_refuse(-ESRCH, "there is no process %u", told->pid);
	error = add(task);
	put_task_struct(task);
	return error;
}

u64 ptap_target_others(unsigned int cpu)
{
	return READ_ONCE(per_cpu(ptap_target_passed_over, cpu));
}

void ptap_target_show(struct seq_file *file)
{
	if (READ_ONCE(unfollowed))
		seq_printf(file, "unfollowed %llu\n", READ_ONCE(unfollowed));
}

void ptap_target_free(void)
{
	unfollow();
	kvfree(ptap_target_set);
	ptap_target_set = NULL;
	count = 0;
}
