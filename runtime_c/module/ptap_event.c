// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tracepoints are found by name. Those of modules the kernel lists with their modules, to whoever begins to follow how
 * they come and go: so that is begun, and ended at once, to look one up.
 */

#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#include "ptap_event.h"
#include "ptap_hit.h"
#include "ptap_module.h"
#include "ptap_record.h"
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

/* A tracepoint of a module, and what looks for it. */
struct module_search {
	struct notifier_block notifier;
	const char *symbol; /* module:name */
	struct tracepoint *found;
};

static int search_module(struct notifier_block *block, unsigned long state, void *data)
{
	struct module_search *search = container_of(block, struct module_search, notifier);
	const struct module *module = ((const struct tp_module *)data)->mod;
	unsigned int index;

	/* One that goes has been passed by those who take probes off its tracepoints. */
	if (state != MODULE_STATE_COMING || module->state == MODULE_STATE_GOING ||
	    !ptap_module_is_of(search->symbol, module->name))
		return NOTIFY_DONE;
	for (index = 0; index < module->num_tracepoints; index++) {
		struct tracepoint *tracepoint = tracepoint_ptr_deref(&module->tracepoints_ptrs[index]);

		if (!strcmp(tracepoint->name, strchr(search->symbol, ':') + 1))
			search->found = tracepoint;
	}
	return NOTIFY_DONE;
}

static struct tracepoint *find_in_module(const char *symbol)
{
	struct module_search search = { .notifier.notifier_call = search_module, .symbol = symbol };

	if (register_tracepoint_module_notifier(&search.notifier))
		return NULL;
	unregister_tracepoint_module_notifier(&search.notifier);
	return search.found;
}

int ptap_tracepoint_register(struct ptap_event *event, const char *symbol)
{
	struct tracepoint *found = strchr(symbol, ':') ? find_in_module(symbol) : ptap_tracepoint_find(symbol);
	int error;

	if (!found)
		return -ENOENT;
	error = tracepoint_probe_register(found, (void *)ptap_tracepoint_entered, event);
	if (!error)
		event->tracepoint = found;
	return error;
}

void ptap_tracepoint_unregister(struct ptap_event *event)
{
	tracepoint_probe_unregister(event->tracepoint, (void *)ptap_tracepoint_entered, event);
	tracepoint_synchronize_unregister();
	event->tracepoint = NULL;
}
