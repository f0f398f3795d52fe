// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* x86-64 (System V ABI AMD64, figure 3.36). */

#include <linux/kprobes.h>

#include "ptap_x86_64.h"

void ptap_registers_at(u64 *registers, const struct pt_regs *regs, u64 pc)
{
	registers[0] = regs->ax;
	registers[1] = regs->dx;
	registers[2] = regs->cx;
	registers[3] = regs->bx;
	registers[4] = regs->si;
	registers[5] = regs->di;
	registers[6] = regs->bp;
	registers[7] = regs->sp;
	registers[8] = regs->r8;
	registers[9] = regs->r9;
	registers[10] = regs->r10;
	registers[11] = regs->r11;
	registers[12] = regs->r12;
	registers[13] = regs->r13;
	registers[14] = regs->r14;
	registers[15] = regs->r15;
	registers[PTAP_RETURN_ADDRESS] = pc;
}
NOKPROBE_SYMBOL(ptap_registers_at);

void ptap_cursor_at(struct ptap_cursor *cursor, const struct pt_regs *regs, u64 pc)
{
	ptap_registers_at(cursor->registers, regs, pc);
	cursor->known = PTAP_ALL_REGISTERS;
	cursor->carried = 0;
	cursor->previous_cfa = PTAP_NO_PREVIOUS_CFA;
	cursor->detail = 0;
	cursor->frames = 0;
	cursor->exact = 1;
	cursor->on_demand = 0;
}
NOKPROBE_SYMBOL(ptap_cursor_at);

void ptap_cursor_of_caller(struct ptap_cursor *cursor)
{
	int number;

	for (number = 0; number < PTAP_REGISTER_COUNT; number++) {
		if (!(PTAP_KEPT_BY_CALLS & 1u << number))
			cursor->registers[number] = 0;
	}
	cursor->known = PTAP_KEPT_BY_CALLS;
	cursor->exact = 0;
}
NOKPROBE_SYMBOL(ptap_cursor_of_caller);

u32 ptap_user_known(const struct pt_regs *regs)
{
	/*
	 * A system call is a call to its caller: rcx and r11 are lost, rax is its result or not yet. All other ways into
	 * the kernel note -1 in place of its number, and keep everything.
	 */
	int is_call = (long)regs->orig_ax >= 0;

	if (ptap_are_narrow(regs))
		return is_call ? PTAP_KEPT_BY_NARROW_CALLS : PTAP_NARROW_REGISTERS;
	if (regs->cs != __USER_CS)
		return 0;
	return is_call ? PTAP_KEPT_BY_CALLS : PTAP_ALL_REGISTERS;
}
NOKPROBE_SYMBOL(ptap_user_known);
