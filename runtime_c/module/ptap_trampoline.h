/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Return probes put the address of a trampoline in place of a return address; here is what they have replaced. */
#ifndef PTAP_TRAMPOLINE_H
#define PTAP_TRAMPOLINE_H

#include <linux/types.h>

/* The return address that belongs at `address` of the current task's stack; `trampoline` when nobody knows. */
u64 ptap_trampoline_replaced(u64 address, u64 trampoline);

/* A return probe of ours is about to replace `address`, which stands at `place` of the current task's stack. */
void ptap_trampoline_note(u64 place, u64 address);

/* What was noted of `place` was taken: the function has returned. */
void ptap_trampoline_forget(u64 place);

#endif
