/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which stacks are wanted: the predicate of the session, and its verdicts on hits. */
#ifndef PTAP_WHEN_H
#define PTAP_WHEN_H

#include <linux/types.h>

struct ptap_cpu;

/* Take the program that the message has; 0 or -errno. A second one is refused. In process context, under the lock. */
int ptap_when_add(const void *message, size_t size);

void ptap_when_free(void);

/* Whether the task that runs tells already that its stack is not wanted, which is counted then. At a probe. */
bool ptap_when_refuses_task(struct ptap_cpu *cpu);

/*
 * Whether the `count` frames of the kernel, where the walk ended with `stop`, tell that the stack is not wanted, which is
 * counted then. Where they tell that it is, `flags`, the hit's, get PTAP_HIT_FLAG_WANTED. At a probe.
 */
bool ptap_when_refuses_kernel(struct ptap_cpu *cpu, u32 count, int stop, u32 *flags);

/*
 * The same by all frames, when the user's were walked: those that are wanted get PTAP_HIT_FLAG_WANTED, and where that
 * is not known, PTAP_HIT_FLAG_UNDECIDED.
 */
bool ptap_when_refuses_stack(struct ptap_cpu *cpu, u32 count, int stop, u32 *flags);

#endif
