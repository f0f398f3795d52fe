// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The course of the session. All of this runs in process context, under its lock. */

#include <linux/cpumask.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include "ptap_check.h"
#include "ptap_checksum.h"
#include "ptap_lookup.h"
#include "ptap_module.h"
#include "ptap_probe.h"
#include "ptap_record.h"
#include "ptap_run.h"
#include "ptap_session.h"
#include "ptap_space.h"
#include "ptap_target.h"
#include "ptap_user_probe.h"
#include "ptap_when.h"

/*
 * Symbols whose run-time address the linker of modules puts here: with where vmlinux has them, they tell how far the
 * kernel was moved.
 */
static const struct {
	const char *name;
	const void *address;
} known_symbols[] = {
	{ "init_task", &init_task },
	{ "register_kprobe", register_kprobe },
	{ "schedule", schedule },
	{ "vfree", vfree },
};

int ptap_run_add_anchor(const void *message, size_t size)
{
	const struct ptap_anchor_message *anchor = message;
	u64 slide;
	size_t index;

	if (size != sizeof(*anchor) || strnlen(anchor->symbol, sizeof(anchor->symbol)) == sizeof(anchor->symbol))
		return ptap_refuse(-EINVAL, "an anchor of %zu bytes", size);
	for (index = 0; index < ARRAY_SIZE(known_symbols); index++) {
		if (!strcmp(known_symbols[index].name, anchor->symbol))
			break;
	}
	if (index == ARRAY_SIZE(known_symbols))
		return ptap_refuse(-ENOENT, "no anchor of the name %s", anchor->symbol);
	slide = (u64)(unsigned long)known_symbols[index].address - anchor->address;
	if ((ptap_session.anchors && slide != ptap_session.slide) || slide % PAGE_SIZE)
		return ptap_refuse(-EXDEV, "vmlinux is of another kernel: %s does not lie where the other symbols say",
				   anchor->symbol);
	ptap_session.slide = slide;
	ptap_session.anchors++;
	return 0;
}

/* Tables come in any order, mappings are sorted. */
static void insert_mapping(const struct ptap_mapping *mapping)
{
	u32 index = ptap_session.mapping_count++;

	for (; index > 0 && ptap_session.mappings[index - 1].start > mapping->start; index--)
		ptap_session.mappings[index] = ptap_session.mappings[index - 1];
	ptap_session.mappings[index] = *mapping;
	ptap_session.needed |= ptap_registers_needed(mapping->table);
}

/* Of a checked table; null when there is no memory for it. */
static const u32 *page_list(const void *table)
{
	u32 *pages = kvmalloc_array(ptap_page_count(table), sizeof(*pages), GFP_KERNEL);

	if (pages)
		ptap_list_pages(table, pages);
	return pages;
}

int ptap_run_add_table(const void *message, size_t size)
{
	const struct ptap_table_message *range = message;
	struct ptap_mapping mapping = { .bias = ptap_session.slide, .kind = PTAP_MAPPING_MODULE };
	enum ptap_table_fault fault;
	void *table;

	if (size <= sizeof(*range) || size > S32_MAX || range->start >= range->end)
		return ptap_refuse(-EINVAL, "a table of %zu bytes", size);
	if (!ptap_session.anchors)
		return ptap_refuse(-EINVAL, "a table before any anchor");
	if (ptap_session.mapping_count == PTAP_MAXIMUM_TABLES)
		return ptap_refuse(-E2BIG, "more than %d tables", PTAP_MAXIMUM_TABLES);
	mapping.table_size = size - sizeof(*range);
	mapping.start = range->start + mapping.bias;
	mapping.end = range->end + mapping.bias;
	/* A copy of its own, at the alignment that lookups need. */
	table = kvmalloc(mapping.table_size, GFP_KERNEL);
	if (!table)
		return ptap_refuse(-ENOMEM, "no memory for a table of %u bytes", mapping.table_size);
	memcpy(table, range + 1, mapping.table_size);
	fault = ptap_check_table(table, mapping.table_size);
	if (fault != PTAP_TABLE_SOUND) {
		kvfree(table);
		return ptap_refuse(-EBADMSG, "a damaged table: fault %d", fault);
	}
	if (!ptap_checksum_holds(table, mapping.table_size)) {
		kvfree(table);
		return ptap_refuse(-EBADMSG, "a damaged table: its checksum is another");
	}
	mapping.table = table;
	mapping.pages = page_list(table);
	if (!mapping.pages) {
		kvfree(table);
		return ptap_refuse(-ENOMEM, "no memory for the list of a table's pages");
	}
	insert_mapping(&mapping);
	return 0;
}

int ptap_run_add_trampoline(const void *message, size_t size)
{
	const struct ptap_trampoline_message *trampoline = message;

	if (size != sizeof(*trampoline) || !ptap_session.anchors)
		return ptap_refuse(-EINVAL, "a trampoline of %zu bytes, or before any anchor", size);
	ptap_session.trampoline = trampoline->address + ptap_session.slide;
	return 0;
}

static void free_cpus(void)
{
	unsigned int number;

	if (!ptap_session.cpus)
		return;
	for (number = 0; number < nr_cpu_ids; number++) {
		if (ptap_session.cpus[number])
			ptap_ring_free(&ptap_session.cpus[number]->ring);
		kvfree(ptap_session.cpus[number]);
	}
	kfree(ptap_session.cpus);
	ptap_session.cpus = NULL;
}

/*
 * Whether every CPU's memory leaves a quarter of what is available: what is taken of a machine's last memory makes the
 * kernel end other programs.
 */
static bool is_affordable(u32 ring_bytes)
{
	u64 wanted = num_possible_cpus() * ((u64)ring_bytes + sizeof(struct ptap_cpu));
	long pages = si_mem_available();
	u64 available = pages > 0 ? (u64)pages << PAGE_SHIFT : 0;

	return wanted <= available - available / 4;
}

static int allocate_cpus(u32 ring_bytes)
{
	unsigned int number;

	if (!is_affordable(ring_bytes))
		return -ENOMEM;

	ptap_session.cpus = kcalloc(nr_cpu_ids, sizeof(*ptap_session.cpus), GFP_KERNEL);
	if (!ptap_session.cpus)
		return -ENOMEM;
	for_each_possible_cpu(number) {
		struct ptap_cpu *cpu = kvzalloc(sizeof(*cpu), GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);

		if (!cpu)
			return -ENOMEM;
		ptap_session.cpus[number] = cpu;
		cpu->scratch.remembered = &cpu->remembered;
		if (ptap_ring_allocate(&cpu->ring, ring_bytes))
			return -ENOMEM;
	}
	return 0;
}

int ptap_run_start(const void *message, size_t size)
{
	const struct ptap_start_message *start = message;
	int error;

	if (size != sizeof(*start) || start->maximum_frames < 1 || start->maximum_frames > PTAP_MAXIMUM_FRAMES ||
	    start->ring_bytes < PTAP_MINIMUM_RING_BYTES || start->ring_bytes > PTAP_MAXIMUM_RING_BYTES ||
	    !is_power_of_2(start->ring_bytes) || start->slices > PTAP_SLICES_FLAT ||
	    start->flat_bytes > PTAP_MAXIMUM_FLAT_BYTES || start->flat_bytes % 8)
		return ptap_refuse(-EINVAL, "a start of %zu bytes, or with settings out of bounds", size);
	if (start->flags & ~PTAP_START_FLAGS || start->reserved)
		return ptap_refuse(-EINVAL, "a start with the unknown flags %#x",
				   start->reserved ? start->reserved : start->flags & ~PTAP_START_FLAGS);
	if (ptap_session.state != PTAP_CONFIGURING)
		return ptap_refuse(-EBUSY, "the session was started before; load the module again");
	ptap_session.maximum_frames = start->maximum_frames;
	ptap_session.slices = start->slices;
	ptap_session.flags = start->flags;
	ptap_session.flat_bytes = start->flat_bytes;
	ptap_session.owner = current->tgid;
	error = allocate_cpus(start->ring_bytes);
	if (error) {
		free_cpus();
		return ptap_refuse(error, "no memory for %u bytes of each of %u CPUs, with some left: ask for smaller rings",
				   start->ring_bytes, num_possible_cpus());
	}
	error = ptap_probe_register_all();
	if (!error) {
		error = ptap_user_probe_register_all();
		if (error)
			ptap_probe_unregister_all();
	}
	if (error) {
		free_cpus();
		return error;
	}
	ptap_session.state = PTAP_STARTED;
	return 0;
}

void ptap_run_stop(void)
{
	unsigned int number;
	u64 missed, others;

	if (ptap_session.state != PTAP_STARTED)
		return;
	/* Returns when no handler runs any more. */
	ptap_probe_unregister_all();
	ptap_user_probe_unregister_all();
	missed = ptap_probe_missed();
	for (number = 0; number < nr_cpu_ids; number++) {
		struct ptap_cpu *cpu = ptap_session.cpus[number];

		if (!cpu)
			continue;
		others = ptap_target_others(number);
		ptap_ring_finish(&cpu->ring, number, cpu->hits + others, cpu->dropped, missed,
				 cpu->unwanted, others);
		missed = 0;
	}
	ptap_session.state = PTAP_STOPPED;
}

void ptap_run_free(void)
{
	u32 index;

	ptap_run_stop();
	ptap_target_free();
	free_cpus();
	ptap_probe_free_all();
	ptap_module_free_all();
	ptap_user_probe_free_all();
	ptap_space_free_all();
	for (index = 0; index < ptap_session.mapping_count; index++) {
		kvfree(ptap_session.mappings[index].pages);
		kvfree(ptap_session.mappings[index].table);
	}
	ptap_session.mapping_count = 0;
	ptap_when_free();
}
