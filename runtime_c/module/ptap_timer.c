// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Timers are perf's software clocks, one a processor. A clock ends with its processor, and none begins by itself on one
 * that comes: so processors are followed as they come and go.
 */

#include <linux/cpuhotplug.h>
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/perf_event.h>
#include <linux/slab.h>

#include "ptap_event.h"
#include "ptap_hit.h"
#include "ptap_record.h"
#include "ptap_session.h"

/* Of one processor. */
struct ptap_clock {
	struct perf_event *event; /* null while the processor is off, or gives none */
	bool was_there; /* at some time */
};

/* The kernel's number for what is called as processors come and go, while there is a timer. */
static int following_state;
static u32 following_timers;

static void ticked(struct perf_event *clock, struct perf_sample_data *data, struct pt_regs *regs)
{
	const struct ptap_event *event = clock->overflow_handler_context;

	ptap_hit(event->number, regs, instruction_pointer(regs), 0);
}
NOKPROBE_SYMBOL(ticked);

/* A processor is there: at the registration each that is, and then those that come. */
static int processor_came(unsigned int number, struct hlist_node *node)
{
	struct ptap_event *event = hlist_entry(node, struct ptap_event, followed);
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.size = sizeof(attributes),
		.sample_period = event->period_ns,
		.pinned = 1,
	};
	struct perf_event *clock = perf_event_create_kernel_counter(&attributes, number, NULL, ticked, event);

	if (IS_ERR(clock)) {
		event->timer_error = PTR_ERR(clock);
		/* Later on, this would keep the processor off. */
		return event->is_registered ? 0 : event->timer_error;
	}
	event->clocks[number].event = clock;
	if (!event->clocks[number].was_there)
		event->timer_count++;
	event->clocks[number].was_there = true;
	return 0;
}

static int processor_goes(unsigned int number, struct hlist_node *node)
{
	struct ptap_event *event = hlist_entry(node, struct ptap_event, followed);
	struct ptap_clock *clock = &event->clocks[number];

	if (clock->event)
		perf_event_release_kernel(clock->event);
	clock->event = NULL;
	return 0;
}

static int follow_processors(struct ptap_event *event)
{
	int error;

	if (!following_timers) {
		following_state = cpuhp_setup_state_multi(CPUHP_AP_ONLINE_DYN, "ptap:timers", processor_came,
							  processor_goes);
		if (following_state < 0)
			return following_state;
	}
	error = cpuhp_state_add_instance(following_state, &event->followed);
	if (!error)
		following_timers++;
	else if (!following_timers)
		cpuhp_remove_multi_state(following_state);
	return error;
}

int ptap_timer_register(struct ptap_event *event, u32 frequency)
{
	int error = -ENOMEM;

	event->period_ns = NSEC_PER_SEC / frequency;
	event->timer_count = 0;
	event->timer_error = 0;
	event->clocks = kcalloc(nr_cpu_ids, sizeof(*event->clocks), GFP_KERNEL);
	if (event->clocks)
		error = follow_processors(event);
	if (!error) {
		event->is_registered = true;
		return 0;
	}
	kfree(event->clocks);
	event->clocks = NULL;
	return ptap_refuse(error, "the kernel gives no clock of %u samples a second (error %d)", frequency, error);
}

void ptap_timer_unregister(struct ptap_event *event)
{
	cpuhp_state_remove_instance(following_state, &event->followed);
	event->is_registered = false;
	kfree(event->clocks);
	event->clocks = NULL;
	if (!--following_timers)
		cpuhp_remove_multi_state(following_state);
}
