// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The ring. A record is never split: where it does not fit before the end, the rest of the round is padding. */

#include <linux/gfp.h>
#include <linux/ktime.h>
#include <linux/string.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "ptap_record.h"
#include "ptap_ring.h"

#define PADDING 0 /* in place of a record's magic */

/* What every record begins with. */
struct beginning {
	u32 magic;
	u32 size;
};

int ptap_ring_allocate(struct ptap_ring *ring, u32 size)
{
	mutex_init(&ring->reader);
	/* Fails where there is no memory: the kernel shall not end other programs for a ring. */
	ring->data = __vmalloc(size, GFP_KERNEL | __GFP_ZERO | __GFP_NORETRY | __GFP_NOWARN);
	ring->size = size;
	return ring->data ? 0 : -ENOMEM;
}

void ptap_ring_free(struct ptap_ring *ring)
{
	vfree(ring->data);
	ring->data = NULL;
}

/* As ptap_ring_reserve, with `spare` bytes left free behind it. */
static void *reserve(struct ptap_ring *ring, u32 size, u32 spare)
{
	u32 at = ring->head & (ring->size - 1);
	u32 padding = size > ring->size - at ? ring->size - at : 0;
	u64 used = ring->head - smp_load_acquire(&ring->tail);

	if ((u64)padding + size + spare > ring->size - used)
		return NULL;
	ring->reserved = padding;
	if (!padding)
		return ring->data + at;
	*(struct beginning *)(ring->data + at) = (struct beginning){ PADDING, padding };
	return ring->data;
}

void *ptap_ring_reserve(struct ptap_ring *ring, u32 size)
{
	/* The last record may need padding before it, less than itself. */
	return reserve(ring, size, 2 * sizeof(struct ptap_finished));
}

void ptap_ring_commit(struct ptap_ring *ring, u32 size)
{
	smp_store_release(&ring->head, ring->head + ring->reserved + size);
}

void ptap_ring_finish(struct ptap_ring *ring, u32 cpu, u64 hits, u64 dropped, u64 missed,
		      u64 unwanted, u64 others)
{
	struct ptap_finished *record = reserve(ring, sizeof(*record), 0);

	if (WARN_ON_ONCE(!record))
		return;
	*record = (struct ptap_finished){
		.magic = PTAP_RECORD_MAGIC,
		.version = PTAP_RECORD_VERSION,
		.kind = PTAP_RECORD_KIND_FINISHED,
		.length = sizeof(*record),
		.cpu = cpu,
		.time_ns = ktime_get_mono_fast_ns(),
		.hits = hits,
		.dropped = dropped,
		.missed = missed,
		.unwanted = unwanted,
		.others = others,
	};
	ptap_ring_commit(ring, sizeof(*record));
}

ssize_t ptap_ring_read(struct ptap_ring *ring, char __user *buffer, size_t room)
{
	u64 head = smp_load_acquire(&ring->head);
	u64 tail = ring->tail;
	size_t done = 0;
	ssize_t result;

	while (tail != head) {
		const struct beginning *record = (void *)(ring->data + (tail & (ring->size - 1)));
		u32 size = record->size;

		if (record->magic != PADDING) {
			if (size > room - done)
				break;
			if (copy_to_user(buffer + done, record, size))
				return -EFAULT;
			done += size;
		}
		tail += size;
	}
	result = done || tail == head ? (ssize_t)done : -EMSGSIZE;
	if (result >= 0)
		smp_store_release(&ring->tail, tail);
	return result;
}
