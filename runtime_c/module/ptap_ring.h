/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A CPU's ring of records. One writes, the hit of a probe on that CPU; one reads, user space.
 *
 * It is not the kernel's relay: a reader of that may see a record that is reserved and not yet written, and, while the
 * writer moves on to the next sub-buffer, bytes of an older one (kernel/relay.c publishes the sub-buffer before the
 * offset in it). Here a record is there when `head` has passed it, and a drop is known at once.
 */
#ifndef PTAP_RING_H
#define PTAP_RING_H

#include <linux/mutex.h>
#include <linux/types.h>

struct ptap_ring {
	u8 *data;
	u32 size; /* a power of two */
	u64 head; /* bytes ever written; the writer's */
	u64 tail; /* bytes ever read; the reader's */
	u64 reserved; /* bytes from `head` to the start of the record that is being written */
	struct mutex reader;
};

/* -ENOMEM where that much is not to be had without ending other programs. */
int ptap_ring_allocate(struct ptap_ring *ring, u32 size);
void ptap_ring_free(struct ptap_ring *ring);

/* Room for a record of `size` bytes, a multiple of 8, or null: there is none, and nothing was changed. */
void *ptap_ring_reserve(struct ptap_ring *ring, u32 size);

/* Give the record of `size` bytes that was reserved last to the reader. */
void ptap_ring_commit(struct ptap_ring *ring, u32 size);

/* Write the last record, for which there is always room. The writer is gone by then. */
void ptap_ring_finish(struct ptap_ring *ring, u32 cpu, u64 hits, u64 dropped, u64 missed,
		      u64 unwanted, u64 others);

/* Copy whole records to user space: how many bytes, 0 when there is none; -EMSGSIZE when not even one fits. */
ssize_t ptap_ring_read(struct ptap_ring *ring, char __user *buffer, size_t room);

#endif
