/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What depends on the architecture: registers by their DWARF numbers, user addresses, frames of return probes. */
#ifndef PTAP_X86_64_H
#define PTAP_X86_64_H

#include <linux/ptrace.h>

#include <asm/segment.h>

#include "ptap_step.h"

#define PTAP_ALL_REGISTERS ((1u << PTAP_REGISTER_COUNT) - 1)

/* System V ABI AMD64, figure 3.4: rbx, rbp, rsp, r12-r15, and the pc. */
#define PTAP_KEPT_BY_CALLS (1u << 3 | 1u << 6 | 1u << PTAP_STACK_POINTER | 0xfu << 12 | 1u << PTAP_RETURN_ADDRESS)

/*
 * Of 32-bit code, by the numbers of the registers that they are the lower halves of: ebx, esi, edi, ebp, esp and eip
 * are preserved (System V ABI i386 supplement 1.1, §2.2.1), and eax, ecx and edx not.
 */
#define PTAP_KEPT_BY_NARROW_CALLS (0xfu << 3 | 1u << PTAP_STACK_POINTER | 1u << PTAP_RETURN_ADDRESS)
#define PTAP_NARROW_REGISTERS (PTAP_KEPT_BY_NARROW_CALLS | 7u)

/* All registers of `regs` by their DWARF numbers, with `pc` as theirs. */
void ptap_registers_at(u64 *registers, const struct pt_regs *regs, u64 pc);

/* The cursor of a walk that begins where `regs` stand, at `pc`. */
void ptap_cursor_at(struct ptap_cursor *cursor, const struct pt_regs *regs, u64 pc);

/* It stands where a call returns to: what a called function need not preserve is not known. */
void ptap_cursor_of_caller(struct ptap_cursor *cursor);

/*
 * Called by tracepoints, with whatever they have behind it: ptap_tracepoint_hit with the registers of the caller, of
 * which only those that a called function preserves are set, the pc and the stack pointer.
 */
struct ptap_event;
void ptap_tracepoint_entered(struct ptap_event *event, ...);
void ptap_tracepoint_hit(struct ptap_event *event, struct pt_regs *regs);

/* Which registers the user's `regs` hold, bit r for register r; 0 where they are of code that nobody walks. */
u32 ptap_user_known(const struct pt_regs *regs);

/* Whether the user's `regs` are of 32-bit code. */
static inline int ptap_are_narrow(const struct pt_regs *regs)
{
	return regs->cs == __USER32_CS;
}

/* Whether `regs` are the user's (user_mode, which takes them not const before 6.3). */
static inline int ptap_are_users(const struct pt_regs *regs)
{
	return (regs->cs & 3) != 0;
}

/* Whether `pc` is code of user space. */
static inline int ptap_is_user_pc(u64 pc)
{
	return pc >> 63 == 0;
}

/* Bytes from the pc that an interrupt has saved to the stack pointer that it has saved (struct pt_regs). */
#define PTAP_SAVED_STACK_POINTER (offsetof(struct pt_regs, sp) - offsetof(struct pt_regs, ip))

/* Where on the stack the return address stood of which the kernel notes `frame` (rethook_node.frame). */
static inline u64 ptap_rethook_place(u64 frame)
{
	/* arch_rethook_prepare notes the stack pointer at the function's first instruction. */
	return frame;
}

#endif
