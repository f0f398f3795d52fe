/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Probes that are no places in code: tracepoints of the kernel, and samples by timers. Not from probe context. */
#ifndef PTAP_EVENT_H
#define PTAP_EVENT_H

#include <linux/types.h>

struct ptap_clock;
struct tracepoint;

struct ptap_event {
	u32 number; /* the probe's */
	struct tracepoint *tracepoint;
	u64 period_ns; /* of a timer; what follows, too */
	struct ptap_clock *clocks; /* by processor */
	struct hlist_node followed;
	u32 timer_count; /* processors that had a clock at some time; stays when they are gone, for people */
	int timer_error; /* why the last one that has none has none; 0: all have one */
	bool is_registered;
};

/* The kernel's own tracepoint of that name, or null. */
struct tracepoint *ptap_tracepoint_find(const char *name);

/*
 * `symbol` is module:name for a module's: 0, -ENOENT where there is no such tracepoint or the module is not loaded, or
 * another -errno. Under the lock of ptap_module.h. Unregistering waits until no handler runs any more.
 */
int ptap_tracepoint_register(struct ptap_event *event, const char *symbol);
void ptap_tracepoint_unregister(struct ptap_event *event);

/*
 * Samples of every processor, `frequency` times a second, as long as it is online: 0 or -errno, with the session's
 * error written.
 */
int ptap_timer_register(struct ptap_event *event, u32 frequency);
void ptap_timer_unregister(struct ptap_event *event);

#endif
