/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Return probes of programs put the address of a page of their own in place of a return address; the kernel keeps what
 * they have replaced in a list of the task. Nobody tells the page's address, but it is the start of a page.
 */
#ifndef PTAP_RETURN_INSTANCE_H
#define PTAP_RETURN_INSTANCE_H

#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/types.h>

/* The return address that belongs at `address` of the current task's user stack, where `value` stands. */
u64 ptap_return_found(u64 address, u64 value);

static inline u64 ptap_return_replaced(u64 address, u64 value)
{
	return unlikely(current->utask && value && !(value & ~PAGE_MASK)) ? ptap_return_found(address, value) : value;
}

/* Put all real return addresses into the copy of `size` bytes from `address` on. */
void ptap_return_replace_all(u64 address, void *copy, u32 size);

#endif
