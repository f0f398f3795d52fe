/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Probes that are no places in code: tracepoints of the kernel, and samples by timers. Not from probe context. */
#ifndef PTAP_EVENT_H
#define PTAP_EVENT_H

#include <linux/types.h>

struct perf_event;
struct tracepoint;

struct ptap_event {
	u32 number; /* the probe's */
	struct tracepoint *tracepoint;
	struct perf_event **timers; /* by processor; null where there is none */
	u32 timer_count; /* stays when they are gone, for people */
};

/* The kernel's tracepoint of that name, or null. */
struct tracepoint *ptap_tracepoint_find(const char *name);

/* Each returns 0 or -errno, with the session's error written; unregistering waits until no handler runs any more. */
int ptap_tracepoint_register(struct ptap_event *event, const char *name);
void ptap_tracepoint_unregister(struct ptap_event *event);

/* Samples of every processor that is online, `frequency` times a second. */
int ptap_timer_register(struct ptap_event *event, u32 frequency);
void ptap_timer_unregister(struct ptap_event *event);

#endif
