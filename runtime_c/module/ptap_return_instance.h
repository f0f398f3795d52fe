/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Return probes of programs put the address of a page of their own in place of a return address; the kernel keeps what
 * they have replaced in a list of the task. Nobody tells the page's address, but it is the start of a page.
 */
#ifndef PTAP_RETURN_INSTANCE_H
#define PTAP_RETURN_INSTANCE_H

#include <linux/types.h>

/* Put all real return addresses into the copy of `count` words from `address` on. */
void ptap_return_replace_all(u64 address, u64 *words, u32 count);

#endif
