// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Probes are registered by symbol and offset; where that is not the place that was meant, they are refused. */

#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "ptap_event.h"
#include "ptap_hit.h"
#include "ptap_module.h"
#include "ptap_probe.h"
#include "ptap_record.h"
#include "ptap_session.h"
#include "ptap_trampoline.h"
#include "ptap_user_probe.h"

/* Where a function begins with an instruction for indirect branches, kprobes go behind that one. */
#define ENDBR_SIZE 4

/* Returns that may be awaited at once. */
#define MAXIMUM_ACTIVE 256

enum state {
	OFF = 0,
	ON,
	WAITING, /* for its module */
	REFUSED,
};

struct ptap_probe {
	struct kretprobe returned; /* of a place in code; of an entry only its `kp` is used */
	struct ptap_event event; /* of what is no place */
	u64 address; /* where it has to come to lie, as the message has it; 0: not known */
	u32 offset;
	u32 number;
	u32 kind; /* enum ptap_probe_kind */
	u32 flags; /* enum ptap_probe_flag */
	enum state state;
	int error; /* why it is refused */
	unsigned long missed; /* hits, while the module was loaded before */
	char symbol[sizeof(((struct ptap_probe_message *)0)->symbol)];
};

static int following; /* from the registration of all to the end: modules that come are probed */

static int entered(struct kprobe *kprobe, struct pt_regs *regs)
{
	struct ptap_probe *probe = container_of(kprobe, struct ptap_probe, returned.kp);

	ptap_hit(probe->number, regs, (unsigned long)kprobe->addr, 0);
	return 0;
}
NOKPROBE_SYMBOL(entered);

/* A function is entered whose return is probed; the stack pointer is at its return address. */
static int awaited(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	u64 *place = (u64 *)instance->data;

	*place = regs->sp;
	ptap_trampoline_note(*place, *(unsigned long *)regs->sp);
	return 0;
}
NOKPROBE_SYMBOL(awaited);

static int returned(struct kretprobe_instance *instance, struct pt_regs *regs)
{
#ifdef PTAP_HAS_KRETPROBE_OF_INSTANCE
	struct kretprobe *kretprobe = get_kretprobe(instance);
#else
	struct kretprobe *kretprobe = instance->rp;
#endif
#ifdef PTAP_HAS_KRETPROBE_RETURN_ADDRESS
	unsigned long pc = get_kretprobe_retaddr(instance);
#else
	unsigned long pc = (unsigned long)instance->ret_addr;
#endif

	ptap_trampoline_forget(*(u64 *)instance->data);
	if (kretprobe)
		ptap_hit(container_of(kretprobe, struct ptap_probe, returned)->number, regs, pc,
			 PTAP_HIT_FLAG_RETURN_PROBE);
	return 0;
}
NOKPROBE_SYMBOL(returned);

/* Of the present registration. */
static unsigned long missed_by(const struct ptap_probe *probe)
{
	return probe->returned.kp.nmissed + (probe->kind == PTAP_PROBE_KIND_RETURN ? probe->returned.nmissed : 0);
}

/* Whether what the message says of a probe can be. */
static int is_sound(const struct ptap_probe_message *told, size_t size)
{
	if (size != sizeof(*told) || strnlen(told->symbol, sizeof(told->symbol)) == sizeof(told->symbol) ||
	    told->offset > U32_MAX || told->flags & ~PTAP_PROBE_FLAGS || told->reserved || !ptap_session.anchors)
		return 0;
	switch (told->kind) {
	case PTAP_PROBE_KIND_ENTRY:
	case PTAP_PROBE_KIND_RETURN:
	case PTAP_PROBE_KIND_TRACEPOINT:
	case PTAP_PROBE_KIND_USER_ENTRY:
	case PTAP_PROBE_KIND_USER_RETURN:
		return 1;
	case PTAP_PROBE_KIND_TIMER:
		return told->offset && told->offset <= PTAP_MAXIMUM_FREQUENCY;
	}
	return 0;
}

int ptap_probe_add(const void *message, size_t size)
{
	const struct ptap_probe_message *told = message;
	struct ptap_probe **probes, *probe;

	if (!is_sound(told, size))
		return ptap_refuse(-EINVAL, "a probe of %zu bytes, of an unknown kind, or before any anchor", size);
	if (told->kind == PTAP_PROBE_KIND_USER_ENTRY || told->kind == PTAP_PROBE_KIND_USER_RETURN)
		return ptap_user_probe_add(told);
	if (ptap_session.probe_count == PTAP_MAXIMUM_PROBES)
		return ptap_refuse(-E2BIG, "more than %d probes", PTAP_MAXIMUM_PROBES);
	if (!ptap_session.probes)
		ptap_session.probes = kvcalloc(PTAP_MAXIMUM_PROBES, sizeof(*probes), GFP_KERNEL);
	probe = kzalloc(sizeof(*probe), GFP_KERNEL);
	if (!ptap_session.probes || !probe) {
		kfree(probe);
		return ptap_refuse(-ENOMEM, "no memory for a probe");
	}
	memcpy(probe->symbol, told->symbol, sizeof(probe->symbol));
	probe->number = told->number;
	probe->event.number = told->number;
	probe->kind = told->kind;
	probe->flags = told->flags;
	probe->offset = told->offset;
	probe->address = told->address;
	ptap_session.probes[ptap_session.probe_count++] = probe;
	return 0;
}

static int is_in_module(const struct ptap_probe *probe)
{
	return strchr(probe->symbol, ':') != NULL;
}

static void detach(struct ptap_probe *probe)
{
	if (probe->state != ON)
		return;
	switch (probe->kind) {
	case PTAP_PROBE_KIND_TIMER:
		ptap_timer_unregister(&probe->event);
		break;
	case PTAP_PROBE_KIND_TRACEPOINT:
		ptap_tracepoint_unregister(&probe->event);
		break;
	case PTAP_PROBE_KIND_RETURN:
		unregister_kretprobe(&probe->returned);
		break;
	default:
		unregister_kprobe(&probe->returned.kp);
	}
	probe->state = OFF;
}

/* The address that the probe has to be at: 0 when that is not known, or -errno. */
static u64 expected_address(const struct ptap_probe *probe)
{
	if (is_in_module(probe))
		return ptap_module_address(probe->symbol, probe->address);
	return probe->address ? probe->address + ptap_session.slide : 0;
}

static void stepped(struct kprobe *kprobe, struct pt_regs *regs, unsigned long flags)
{
}
NOKPROBE_SYMBOL(stepped);

/*
 * Register a place in a module's code, by a breakpoint that stays one where ftrace does not serve it: no jump is made
 * of a probe that has a post_handler. A module may go while such a jump of a probe that was just unregistered is still
 * to be taken back; the kernel then keeps that probe on none of its lists (kill_optimized_kprobe() in
 * kernel/kprobes.c, from 6.2 on and in the stable releases of older ones), and warns of the next one at its place.
 */
static int register_in_module(struct kprobe *kprobe)
{
	int error;

	kprobe->flags = KPROBE_FLAG_DISABLED; /* and so no jump is made of it meanwhile */
	error = register_kprobe(kprobe);
	if (error)
		return error;
	if (kprobe_ftrace(kprobe)) {
		error = enable_kprobe(kprobe);
		if (error)
			unregister_kprobe(kprobe);
		return error;
	}
	unregister_kprobe(kprobe);
	kprobe->addr = NULL; /* found anew by the symbol */
	kprobe->flags = 0;
	kprobe->post_handler = stepped;
	return register_kprobe(kprobe);
}

/* Register a place in code; -EXDEV when the symbol leads to another place than was meant. */
static int attach_place(struct ptap_probe *probe)
{
	struct kprobe *kprobe = &probe->returned.kp;
	u64 expected = expected_address(probe), behind;
	int error;

	if (IS_ERR_VALUE(expected))
		return (int)expected;
	/* What an earlier registration has left would be taken for settings. */
	memset(&probe->returned, 0, sizeof(probe->returned));
	kprobe->symbol_name = probe->symbol;
	kprobe->offset = probe->offset;
	if (probe->kind == PTAP_PROBE_KIND_RETURN) {
		probe->returned.entry_handler = awaited;
		probe->returned.handler = returned;
		probe->returned.data_size = sizeof(u64);
		probe->returned.maxactive = MAXIMUM_ACTIVE;
		error = register_kretprobe(&probe->returned);
	} else {
		kprobe->pre_handler = entered;
		error = is_in_module(probe) ? register_in_module(kprobe) : register_kprobe(kprobe);
	}
	if (error)
		return error;
	probe->state = ON;
	behind = (u64)(unsigned long)kprobe->addr - expected;
	if (expected && behind && behind != ENDBR_SIZE) {
		detach(probe);
		return -EXDEV;
	}
	return 0;
}

static int attach(struct ptap_probe *probe)
{
	int error;

	switch (probe->kind) {
	case PTAP_PROBE_KIND_TIMER:
		error = ptap_timer_register(&probe->event, probe->offset);
		break;
	case PTAP_PROBE_KIND_TRACEPOINT:
		error = ptap_tracepoint_register(&probe->event, probe->symbol);
		break;
	default:
		return attach_place(probe);
	}
	if (!error)
		probe->state = ON;
	return error;
}

/* Note for people why a probe is refused. */
static int refuse(const struct ptap_probe *probe, int error)
{
	if (probe->kind == PTAP_PROBE_KIND_TIMER)
		return error; /* said already */
	if (probe->kind == PTAP_PROBE_KIND_TRACEPOINT)
		return error == -ENOENT ?
			       ptap_refuse(error, "the kernel has no tracepoint %s", probe->symbol) :
			       ptap_refuse(error, "the kernel does not probe the tracepoint %s (error %d)", probe->symbol,
					   error);
	if (error == -EXDEV)
		return ptap_refuse(error, "probe %u: %s+%#x is not the place that was meant: vmlinux or the module's file is of another build, or the name is not unique",
				   probe->number, probe->symbol, probe->offset);
	return ptap_refuse(error, "probe %u: the kernel does not probe %s+%#x (error %d)", probe->number, probe->symbol,
			   probe->offset, error);
}

/* 0, or why nothing at all can be probed; what is no reason for that is noted of the probe. */
static int begin(struct ptap_probe *probe)
{
	int error = attach(probe);

	if (error == -ENOENT && is_in_module(probe)) {
		probe->state = WAITING;
		return 0;
	}
	if (error && probe->flags & PTAP_PROBE_FLAG_OPTIONAL) {
		probe->state = REFUSED;
		probe->error = error;
		return 0;
	}
	return error ? refuse(probe, error) : 0;
}

int ptap_probe_register_all(void)
{
	u32 index;
	int error;

	ptap_module_lock();
	error = ptap_module_begin();
	for (index = 0; !error && index < ptap_session.probe_count; index++)
		error = begin(ptap_session.probes[index]);
	following = !error;
	if (error) {
		ptap_module_end();
		while (index--)
			detach(ptap_session.probes[index]);
	}
	ptap_module_unlock();
	return error;
}

void ptap_probe_unregister_all(void)
{
	u32 index;

	ptap_module_lock();
	following = 0;
	for (index = 0; index < ptap_session.probe_count; index++)
		detach(ptap_session.probes[index]);
	ptap_module_end();
	ptap_module_unlock();
}

void ptap_probe_module_coming(const struct module *module)
{
	u32 index;

	for (index = 0; following && index < ptap_session.probe_count; index++) {
		struct ptap_probe *probe = ptap_session.probes[index];

		if (probe->state == ON || !ptap_module_is_of(probe->symbol, module->name))
			continue;
		probe->error = attach(probe);
		if (probe->error)
			probe->state = REFUSED;
	}
}

void ptap_probe_module_going(const struct module *module)
{
	u32 index;

	for (index = 0; following && index < ptap_session.probe_count; index++) {
		struct ptap_probe *probe = ptap_session.probes[index];

		if (probe->state != ON || !probe->event.tracepoint || !ptap_module_is_of(probe->symbol, module->name))
			continue;
		detach(probe);
		probe->state = WAITING;
	}
}

void ptap_probe_module_leaving(const struct module *module, int init_only)
{
	u32 index;

	for (index = 0; following && index < ptap_session.probe_count; index++) {
		struct ptap_probe *probe = ptap_session.probes[index];

		if (!ptap_module_is_of(probe->symbol, module->name) ||
		    (init_only && (probe->state != ON ||
				   !within_module_init((unsigned long)probe->returned.kp.addr, module))))
			continue;
		probe->missed += missed_by(probe);
		detach(probe);
		probe->state = WAITING;
		memset(&probe->returned, 0, sizeof(probe->returned));
	}
}

void ptap_probe_free_all(void)
{
	u32 index;

	for (index = 0; index < ptap_session.probe_count; index++)
		kfree(ptap_session.probes[index]);
	kvfree(ptap_session.probes);
	ptap_session.probes = NULL;
	ptap_session.probe_count = 0;
}

u64 ptap_probe_missed(void)
{
	u64 missed = 0;
	u32 index;

	for (index = 0; index < ptap_session.probe_count; index++)
		missed += ptap_session.probes[index]->missed + missed_by(ptap_session.probes[index]);
	return missed;
}

void ptap_probe_show(struct seq_file *file)
{
	u32 index;

	for (index = 0; index < ptap_session.probe_count; index++) {
		const struct ptap_probe *probe = ptap_session.probes[index];

		seq_printf(file, "probe %u %s+%#x missed %lu", probe->number, probe->symbol, probe->offset,
			   probe->missed + missed_by(probe));
		if (probe->state == WAITING)
			seq_puts(file, " waiting for its module");
		else if (probe->state == REFUSED)
			seq_printf(file, " refused with error %d", probe->error);
		else if (probe->event.timer_count)
			seq_printf(file, " on %u of %u processors", probe->event.timer_count, num_possible_cpus());
		if (probe->event.timer_error)
			seq_printf(file, ", one had no clock (error %d)", probe->event.timer_error);
		seq_putc(file, '\n');
	}
}
