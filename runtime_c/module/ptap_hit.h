/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A hit of a probe becomes a record. */
#ifndef PTAP_HIT_H
#define PTAP_HIT_H

#include <linux/ptrace.h>

/* Record the current stack; `regs` are those of the probed place, `pc` what they stand at, `flags` enum ptap_hit_flag. */
void ptap_hit(u32 probe, const struct pt_regs *regs, u64 pc, u32 flags);

#endif
