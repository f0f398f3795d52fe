// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Sections of modules. User space tells where those of a loaded module lie; of one that is loaded later it is seen from
 * two symbols a section, which have to agree: then the file is not of another build.
 */

#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/rcupdate.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <linux/timekeeping.h>

#include "ptap_check.h"
#include "ptap_checksum.h"
#include "ptap_module.h"
#include "ptap_plan.h"
#include "ptap_probe.h"
#include "ptap_record.h"
#include "ptap_session.h"
#include "ptap_x86_64.h"

struct ptap_module {
	char name[sizeof(((struct ptap_module_message *)0)->name)];
	u32 section_count;
	struct ptap_module_section *sections;
	u64 *addresses; /* of the sections at run time, 0: not there */
	void *table; /* null for none */
	u32 table_size;
	u32 other_build; /* what is loaded */
};

static DEFINE_MUTEX(lock);
static struct ptap_module *modules[PTAP_MAXIMUM_MODULES];
static u32 module_count;
static int recording;
static u64 untold; /* sections for which there was no room in the ring, or no memory */

void ptap_module_lock(void)
{
	mutex_lock(&lock);
}

void ptap_module_unlock(void)
{
	mutex_unlock(&lock);
}

int ptap_module_is_of(const char *symbol, const char *name)
{
	size_t length = strlen(name);

	return !strncmp(symbol, name, length) && symbol[length] == ':';
}

static void free_module(struct ptap_module *module)
{
	kvfree(module->table);
	kvfree(module->sections);
	kvfree(module->addresses);
	kfree(module);
}

/* A copy of its own of what the message has behind its head. */
static int take_parts(struct ptap_module *module, const struct ptap_module_message *told, size_t size)
{
	const struct ptap_module_section *sections = (const void *)(told + 1);
	size_t listed = told->section_count * sizeof(*sections);
	u32 index;

	module->section_count = told->section_count;
	module->sections = kvmalloc(listed, GFP_KERNEL);
	module->addresses = kvcalloc(told->section_count, sizeof(u64), GFP_KERNEL);
	if (!module->sections || !module->addresses)
		return -ENOMEM;
	memcpy(module->sections, sections, listed);
	for (index = 0; index < module->section_count; index++) {
		const struct ptap_module_section *section = &module->sections[index];

		if (section->start >= section->end || section->first[sizeof(section->first) - 1] ||
		    section->last[sizeof(section->last) - 1])
			return -EINVAL;
	}
	module->table_size = size - listed;
	if (!module->table_size)
		return 0;
	module->table = kvmalloc(module->table_size, GFP_KERNEL);
	if (!module->table)
		return -ENOMEM;
	memcpy(module->table, (const u8 *)sections + listed, module->table_size);
	return ptap_check_table(module->table, module->table_size) == PTAP_TABLE_SOUND &&
			       ptap_checksum_holds(module->table, module->table_size) ?
		       0 :
		       -EBADMSG;
}

int ptap_module_add(const void *message, size_t size)
{
	const struct ptap_module_message *told = message;
	struct ptap_module *module;
	int error;

	if (size < sizeof(*told) || size > S32_MAX || !told->section_count ||
	    told->section_count > PTAP_MAXIMUM_MODULE_SECTIONS || told->name[sizeof(told->name) - 1] ||
	    (size - sizeof(*told)) / sizeof(struct ptap_module_section) < told->section_count)
		return ptap_refuse(-EINVAL, "a module of %zu bytes", size);
	if (told->number != module_count || module_count == PTAP_MAXIMUM_MODULES)
		return ptap_refuse(-E2BIG, "module %u, of %d at most", told->number, PTAP_MAXIMUM_MODULES);
	module = kzalloc(sizeof(*module), GFP_KERNEL);
	if (!module)
		return ptap_refuse(-ENOMEM, "no memory for a module");
	memcpy(module->name, told->name, sizeof(module->name));
	error = take_parts(module, told, size - sizeof(*told));
	if (error) {
		ptap_refuse(error, "module %s: %s", module->name,
			    error == -EBADMSG ? "a damaged table" :
			    error == -EINVAL  ? "a section that is none" :
						"no memory for it");
		free_module(module);
		return error;
	}
	ptap_module_lock();
	modules[module_count++] = module;
	ptap_module_unlock();
	return 0;
}

int ptap_module_place(const void *message, size_t size)
{
	const struct ptap_placement_message *told = message;
	const struct ptap_module_section *section;
	const struct ptap_module *module;

	if (size != sizeof(*told) || told->module >= module_count ||
	    told->section >= modules[told->module]->section_count || ptap_is_user_pc(told->address))
		return ptap_refuse(-EINVAL, "a section's place of %zu bytes, or of no module", size);
	module = modules[told->module];
	section = &module->sections[told->section];
	if (told->address + (section->end - section->start) < told->address)
		return ptap_refuse(-EINVAL, "section %u of module %s does not lie at %#llx", told->section, module->name,
				   told->address);
	ptap_module_lock();
	module->addresses[told->section] = told->address;
	ptap_module_unlock();
	return 0;
}

/* --- what walks go by */

static void add_mapping(struct ptap_code *code, const struct ptap_mapping *mapping)
{
	u32 index = code->count++;

	for (; index > 0 && code->mappings[index - 1].start > mapping->start; index--)
		code->mappings[index] = code->mappings[index - 1];
	code->mappings[index] = *mapping;
}

static void add_sections(struct ptap_code *code, const struct ptap_module *module)
{
	u32 index;

	if (module->table)
		code->needed |= ptap_registers_needed(module->table);
	for (index = 0; module->table && index < module->section_count; index++) {
		const struct ptap_module_section *section = &module->sections[index];
		u64 address = module->addresses[index];
		const struct ptap_mapping mapping = {
			.start = address,
			.end = address + (section->end - section->start),
			.bias = address - section->start,
			.table = module->table,
			.table_size = module->table_size,
			.kind = PTAP_MAPPING_MODULE,
		};

		if (address)
			add_mapping(code, &mapping);
	}
}

/* Make the list anew. What it refers to stays until all is freed, so a walk may go by the one before to its end. */
static int publish(void)
{
	struct ptap_code *code, *before = rcu_dereference_protected(ptap_session.code, lockdep_is_held(&lock));
	size_t count = ptap_session.mapping_count;
	u32 number;

	for (number = 0; number < module_count; number++)
		count += modules[number]->section_count;
	code = kvmalloc(struct_size(code, mappings, count), GFP_KERNEL);
	if (!code)
		return -ENOMEM;
	code->generation = ptap_next_generation();
	code->needed = ptap_session.needed;
	code->count = 0;
	for (number = 0; number < ptap_session.mapping_count; number++)
		add_mapping(code, &ptap_session.mappings[number]);
	for (number = 0; number < module_count; number++)
		add_sections(code, modules[number]);
	rcu_assign_pointer(ptap_session.code, code);
	synchronize_rcu();
	kvfree(before);
	return 0;
}

/* --- what the record tells of it */

static void fill_record(struct ptap_section_placed *record, u32 number, u32 section, u64 address)
{
	*record = (struct ptap_section_placed){
		.magic = PTAP_RECORD_MAGIC,
		.version = PTAP_RECORD_VERSION,
		.kind = PTAP_RECORD_KIND_MODULE_SECTION,
		.length = sizeof(*record),
		.cpu = smp_processor_id(),
		.time_ns = ktime_get_mono_fast_ns(),
		.module = number,
		.section = section,
		.address = address,
	};
}

/* A record of the section's new place, between hits: the ring has one writer at a time. */
static void tell(u32 number, u32 section, u64 address)
{
	struct ptap_section_placed *record = NULL;
	struct ptap_cpu *cpu;

	preempt_disable_notrace();
	cpu = ptap_session.cpus[smp_processor_id()];
	if (!cpu->busy++)
		record = ptap_ring_reserve(&cpu->ring, sizeof(*record));
	if (record) {
		fill_record(record, number, section, address);
		ptap_ring_commit(&cpu->ring, sizeof(*record));
	} else {
		untold++;
	}
	cpu->busy--;
	preempt_enable_notrace();
}

static void tell_sections(u32 number)
{
	const struct ptap_module *module = modules[number];
	u32 index;

	for (index = 0; recording && index < module->section_count; index++) {
		if (module->addresses[index])
			tell(number, index, module->addresses[index]);
	}
}

int ptap_module_begin(void)
{
	int error = publish();
	u32 number;

	if (error)
		return ptap_refuse(error, "no memory for the list of code");
	recording = 1;
	for (number = 0; number < module_count; number++)
		tell_sections(number);
	return 0;
}

void ptap_module_end(void)
{
	recording = 0;
}

u64 ptap_module_address(const char *symbol, u64 address)
{
	u32 number, index;

	for (number = 0; number < module_count; number++) {
		const struct ptap_module *module = modules[number];

		if (!ptap_module_is_of(symbol, module->name))
			continue;
		if (module->other_build)
			return (u64)-EXDEV;
		for (index = 0; index < module->section_count; index++) {
			const struct ptap_module_section *section = &module->sections[index];

			if (address - section->start < section->end - section->start && module->addresses[index])
				return module->addresses[index] + (address - section->start);
		}
	}
	return 0;
}

/* --- the kernel's loader of modules */

#ifdef PTAP_HAS_MODULE_SYMBOLS
/* The run-time address of a symbol of a module that is being loaded; 0 for none. */
static u64 symbol_address(const struct module *loaded, const char *name)
{
	const struct mod_kallsyms *symbols;
	u64 address = 0;
	u32 index;

	preempt_disable();
	symbols = rcu_dereference_sched(loaded->kallsyms);
	for (index = 1; symbols && index < symbols->num_symtab && !address; index++) {
		if (!strcmp(symbols->strtab + symbols->symtab[index].st_name, name) &&
		    symbols->symtab[index].st_shndx != SHN_UNDEF)
			address = symbols->symtab[index].st_value;
	}
	preempt_enable();
	return address;
}
#else
static u64 symbol_address(const struct module *loaded, const char *name)
{
	return 0;
}
#endif

static void find_sections(struct ptap_module *module, const struct module *loaded)
{
	u32 index;

	module->other_build = 0;
	for (index = 0; index < module->section_count; index++) {
		const struct ptap_module_section *section = &module->sections[index];
		u64 first = symbol_address(loaded, section->first), last = symbol_address(loaded, section->last);

		if (!first || !last || first - section->first_address != last - section->last_address) {
			module->other_build = 1;
			break;
		}
		module->addresses[index] = first - (section->first_address - section->start);
	}
	if (module->other_build)
		memset(module->addresses, 0, module->section_count * sizeof(u64));
}

/* Those of the loaded module that are (with `init_only`, and) code of its initialization are gone. */
static void forget_sections(u32 number, const struct module *loaded, int init_only)
{
	struct ptap_module *module = modules[number];
	u32 index;

	for (index = 0; index < module->section_count; index++) {
		u64 address = module->addresses[index];

		if (!address || (init_only && !within_module_init(address, loaded)))
			continue;
		module->addresses[index] = 0;
		if (recording)
			tell(number, index, 0);
	}
}

static void changed(struct module *loaded, unsigned long state)
{
	int ours = 0;
	u32 number;

	for (number = 0; number < module_count; number++) {
		if (strcmp(modules[number]->name, loaded->name))
			continue;
		ours = 1;
		if (state == MODULE_STATE_COMING) {
			find_sections(modules[number], loaded);
			tell_sections(number);
		} else {
			forget_sections(number, loaded, state == MODULE_STATE_LIVE);
		}
	}
	if (ours && recording && publish())
		untold++;
}

static int notified(struct notifier_block *block, unsigned long state, void *data)
{
	struct module *loaded = data;

	if (state != MODULE_STATE_COMING && state != MODULE_STATE_LIVE && state != MODULE_STATE_GOING)
		return NOTIFY_DONE;
	ptap_module_lock();
	/* Probes come after their sections, and go before them. */
	if (state == MODULE_STATE_COMING) {
		changed(loaded, state);
		ptap_probe_module_coming(loaded);
	} else {
		ptap_probe_module_leaving(loaded, state == MODULE_STATE_LIVE);
		changed(loaded, state);
	}
	ptap_module_unlock();
	return NOTIFY_OK;
}

/* Behind those of the kernel itself, which patch the module's code and list its tracepoints as it comes. */
static struct notifier_block notifier = {
	.notifier_call = notified,
	.priority = -1,
};

static int notified_first(struct notifier_block *block, unsigned long state, void *data)
{
	if (state != MODULE_STATE_GOING)
		return NOTIFY_DONE;
	ptap_module_lock();
	ptap_probe_module_going(data);
	ptap_module_unlock();
	return NOTIFY_OK;
}

/* Before those of the kernel itself: it takes tracepoints that somebody still probes for a fault. */
static struct notifier_block first_notifier = {
	.notifier_call = notified_first,
	.priority = 1,
};

int ptap_module_follow(void)
{
	int error = register_module_notifier(&notifier);

	if (error)
		return error;
	error = register_module_notifier(&first_notifier);
	if (error)
		unregister_module_notifier(&notifier);
	return error;
}

void ptap_module_unfollow(void)
{
	unregister_module_notifier(&first_notifier);
	unregister_module_notifier(&notifier);
}

void ptap_module_free_all(void)
{
	struct ptap_code *code = rcu_dereference_protected(ptap_session.code, 1);
	u32 number;

	RCU_INIT_POINTER(ptap_session.code, NULL);
	kvfree(code);
	for (number = 0; number < module_count; number++)
		free_module(modules[number]);
	module_count = 0;
}

void ptap_module_show(struct seq_file *file)
{
	u32 number, index;

	ptap_module_lock();
	for (number = 0; number < module_count; number++) {
		const struct ptap_module *module = modules[number];
		u32 placed = 0;

		for (index = 0; index < module->section_count; index++)
			placed += module->addresses[index] != 0;
		seq_printf(file, "module %s sections %u of %u%s\n", module->name, placed, module->section_count,
			   module->other_build ? " another build is loaded" : "");
	}
	if (untold)
		seq_printf(file, "sections untold %llu\n", untold);
	ptap_module_unlock();
}
