/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The true call stack, kept from what the instructions do: a call pushes, and whatever moves the stack pointer above
 * a return address (return, longjmp, an exception that goes to its landing pad) has left that call. It knows nothing
 * of CFI.
 */
#ifndef CALL_STACK_H
#define CALL_STACK_H

#include <stdbool.h>

#include "record_stream.h"

/* The innermost call that has not returned, -1 for none. */
int64_t call_stack_top(void);
const struct node *call_stack_node(int64_t number);

/* A call instruction ran with these registers; it pushed `return_address`. */
void call_stack_push(const uint64_t *registers, uint64_t return_address);

/* The stack pointer is `rsp` now: calls whose return address lies below it are left. */
void call_stack_leave(uint64_t rsp);

/*
 * The register `number` (DWARF) with `value` was pushed at `address`. When it is still the caller's, this is where the
 * function keeps it, and who writes there later changes what the caller will get: the C++ runtime does so.
 */
void call_stack_saved(int number, uint64_t value, uint64_t address);

/*
 * A signal handler begins: `interrupted` are the registers when the signal came, `entry` those of the handler, which
 * returns to `return_address`.
 */
void call_stack_signal(const uint64_t *interrupted, const uint64_t *entry, uint64_t return_address);

/* rt_sigreturn: the innermost signal's handler is left. False when there is none. */
bool call_stack_signal_return(void);

/* The stack is switched: the calls so far lie on another stack, in use down to `rsp`. Or it is switched back. */
void call_stack_switch(uint64_t rsp);

/*
 * The word at `address` is `value` now. True when that is the slot of a return address in use, which is replaced; a
 * saved register is replaced too.
 */
bool call_stack_store(uint64_t address, uint64_t value);

/* The lowest address in use on any stack that was left for another, or `rsp` where that is lower. */
uint64_t call_stack_low(uint64_t rsp);

#endif
