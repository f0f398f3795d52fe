/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What an x86-64 instruction does to the call stack (Intel SDM volume 2, §2.1 and appendix A). */
#ifndef INSTRUCTION_H
#define INSTRUCTION_H

#include <stdint.h>

/* PUSH + n pushes the register with the machine's number n. */
enum instruction { PLAIN = 1, CALL, RETURN, SYSCALL, FAR_TRANSFER, POP, PUSH };

enum { INSTRUCTION_BYTES = 15 };

static inline int is_prefix(uint8_t byte)
{
	switch (byte) {
	case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65: case 0x66: case 0x67: case 0xf0: case 0xf2:
	case 0xf3:
		return 1;
	}
	return 0;
}

/* The kind of the instruction at `code`, which holds INSTRUCTION_BYTES + 1 bytes. */
static inline enum instruction instruction_kind(const uint8_t *code)
{
	const uint8_t *at = code, *end = code + INSTRUCTION_BYTES - 1;
	int extended = 0;

	while (at < end && is_prefix(*at))
		at++;
	if (at < end && (*at & 0xf0) == 0x40) /* REX; its lowest bit extends the register */
		extended = 8 * (*at++ & 1);
	if ((at[0] & 0xf8) == 0x50)
		return PUSH + extended + (at[0] & 7);
	if ((at[0] & 0xf8) == 0x58)
		return POP;
	switch (at[0]) {
	case 0xe8:
		return CALL;
	case 0xc2: case 0xc3:
		return RETURN;
	case 0xca: case 0xcb: case 0xcf:
		return FAR_TRANSFER;
	case 0xff:
		if ((at[1] >> 3 & 7) == 2)
			return CALL;
		return (at[1] >> 3 & 7) == 3 || (at[1] >> 3 & 7) == 5 ? FAR_TRANSFER : PLAIN;
	case 0x0f:
		return at[1] == 0x05 ? SYSCALL : PLAIN;
	}
	return PLAIN;
}

#endif
