/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The target: processes that user space told, and all that they start from then on. Nothing told: every process.
 *
 * A process is known by its signal_struct, which its threads share and which exec keeps. A child has one of its own,
 * and joins before it runs; it leaves when nothing of its process runs any more, and before the memory is used again.
 * So there is no moment at which a number means another process.
 */
#ifndef PTAP_TARGET_H
#define PTAP_TARGET_H

#include <linux/compiler.h>
#include <linux/percpu.h>
#include <linux/types.h>

struct seq_file;
struct signal_struct;

/* By the hash of their address; null while every process is the target. */
extern const struct signal_struct **ptap_target_set;

DECLARE_PER_CPU(u64, ptap_target_passed_over);

/* Whether the set has the current process; in any context, without a lock. */
bool ptap_target_has_current(void);

/* Whether the hit of the current process is none of the target's, which is counted. In any context. */
static __always_inline bool ptap_target_passes_over(void)
{
	if (!smp_load_acquire(&ptap_target_set) || ptap_target_has_current())
		return false;
	this_cpu_inc(ptap_target_passed_over);
	return true;
}

/* How many hits a CPU has passed over. */
u64 ptap_target_others(unsigned int cpu);

/* Takes the message's bytes, under the session's lock; 0 or -errno, with the session's `error` written. */
int ptap_target_tell(const void *message, size_t size);

/* A line, where processes could not be followed. */
void ptap_target_show(struct seq_file *file);

/* Forget all; no probe runs any more. */
void ptap_target_free(void);

#endif
