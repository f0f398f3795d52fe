// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tracepoints are found by name; timers are perf's software clocks, one a processor. */

#include <linux/cpumask.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/perf_event.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#include "ptap_event.h"
#include "ptap_hit.h"
#include "ptap_record.h"
#include "ptap_session.h"
#include "ptap_x86_64.h"

/* From ptap_tracepoint_entered, in assembly, with the registers of the code that has called it. */
__visible void ptap_tracepoint_hit(struct ptap_event *event, struct pt_regs *regs)
{
	ptap_hit(event->number, regs, instruction_pointer(regs), PTAP_HIT_FLAG_CALLED);
}
NOKPROBE_SYMBOL(ptap_tracepoint_hit);

/* What is looked for, and found. */
struct search {
	const char *name;
	struct tracepoint *found;
};

static void compare_name(struct tracepoint *tracepoint, void *data)
{
	struct search *search = data;

	if (!strcmp(tracepoint->name, search->name))
		search->found = tracepoint;
}

struct tracepoint *ptap_tracepoint_find(const char *name)
{
	struct search search = { .name = name };

	for_each_kernel_tracepoint(compare_name, &search);
	return search.found;
}

int ptap_tracepoint_register(struct ptap_event *event, const char *name)
{
	struct tracepoint *found = ptap_tracepoint_find(name);
	int error;

	if (!found)
		return ptap_refuse(-ENOENT, "the kernel has no tracepoint %s", name);
	error = tracepoint_probe_register(found, (void *)ptap_tracepoint_entered, event);
	if (error)
		return ptap_refuse(error, "the kernel does not probe the tracepoint %s (error %d)", name, error);
	event->tracepoint = found;
	return 0;
}

void ptap_tracepoint_unregister(struct ptap_event *event)
{
	tracepoint_probe_unregister(event->tracepoint, (void *)ptap_tracepoint_entered, event);
	tracepoint_synchronize_unregister();
	event->tracepoint = NULL;
}

static void ticked(struct perf_event *timer, struct perf_sample_data *data, struct pt_regs *regs)
{
	const struct ptap_event *event = timer->overflow_handler_context;

	ptap_hit(event->number, regs, instruction_pointer(regs), 0);
}
NOKPROBE_SYMBOL(ticked);

int ptap_timer_register(struct ptap_event *event, u32 frequency)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.size = sizeof(attributes),
		.sample_period = NSEC_PER_SEC / frequency,
		.pinned = 1,
	};
	unsigned int number;
	long error = -ENODEV;

	event->timer_count = 0;
	event->timers = kcalloc(nr_cpu_ids, sizeof(*event->timers), GFP_KERNEL);
	if (!event->timers)
		return ptap_refuse(-ENOMEM, "no memory for the timers of %u processors", nr_cpu_ids);
	for_each_online_cpu(number) {
		struct perf_event *timer = perf_event_create_kernel_counter(&attributes, number, NULL, ticked, event);

		if (!IS_ERR(timer)) {
			event->timers[number] = timer;
			event->timer_count++;
			continue;
		}
		error = PTR_ERR(timer);
		/* One that has gone off since is passed over, as one that comes later is. */
		if (error != -ENODEV)
			break;
	}
	if (!event->timer_count || number < nr_cpu_ids) {
		ptap_timer_unregister(event);
		return ptap_refuse(error, "the kernel gives no clock of %u samples a second (error %ld)", frequency, error);
	}
	return 0;
}

void ptap_timer_unregister(struct ptap_event *event)
{
	unsigned int number;

	for (number = 0; event->timers && number < nr_cpu_ids; number++) {
		if (event->timers[number])
			perf_event_release_kernel(event->timers[number]);
	}
	kfree(event->timers);
	event->timers = NULL;
}
