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
 * Whether the stack of the `count` frames that were walked is not wanted, which is counted then. Else `flags`, the
 * hit's, get PTAP_HIT_FLAG_WANTED or PTAP_HIT_FLAG_UNDECIDED where there is a predicate. At a probe.
 */
bool ptap_when_refuses_stack(struct ptap_cpu *cpu, u32 count, int stop, u32 *flags);

#endif
