// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Probes are registered by symbol and offset; where that is not the place that was meant, they are refused. */

#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "ptap_hit.h"
#include "ptap_probe.h"
#include "ptap_record.h"
#include "ptap_session.h"
#include "ptap_trampoline.h"
#include "ptap_user_probe.h"

/* Where a function begins with an instruction for indirect branches, kprobes go behind that one. */
#define ENDBR_SIZE 4

/* Returns that may be awaited at once. */
#define MAXIMUM_ACTIVE 256

struct ptap_probe {
	struct kretprobe returned; /* of an entry only its `kp` is used */
	u64 address; /* where it has to come to lie at run time, 0: not known */
	u32 number;
	u32 kind; /* enum ptap_probe_kind */
	char symbol[sizeof(((struct ptap_probe_message *)0)->symbol)];
};

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

int ptap_probe_add(const void *message, size_t size)
{
	const struct ptap_probe_message *told = message;
	struct ptap_probe **probes, *probe;

	if (size != sizeof(*told) || strnlen(told->symbol, sizeof(told->symbol)) == sizeof(told->symbol) ||
	    (told->kind != PTAP_PROBE_KIND_ENTRY && told->kind != PTAP_PROBE_KIND_RETURN &&
	     told->kind != PTAP_PROBE_KIND_USER_ENTRY && told->kind != PTAP_PROBE_KIND_USER_RETURN) ||
	    told->offset > U32_MAX || !ptap_session.anchors)
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
	probe->kind = told->kind;
	probe->address = told->address ? told->address + ptap_session.slide : 0;
	probe->returned.kp.symbol_name = probe->symbol;
	probe->returned.kp.offset = told->offset;
	probe->returned.kp.pre_handler = entered;
	if (told->kind == PTAP_PROBE_KIND_RETURN) {
		probe->returned.kp.pre_handler = NULL;
		probe->returned.entry_handler = awaited;
		probe->returned.handler = returned;
		probe->returned.data_size = sizeof(u64);
		probe->returned.maxactive = MAXIMUM_ACTIVE;
	}
	ptap_session.probes[ptap_session.probe_count++] = probe;
	return 0;
}

static void unregister(struct ptap_probe *probe)
{
	if (probe->kind == PTAP_PROBE_KIND_RETURN)
		unregister_kretprobe(&probe->returned);
	else
		unregister_kprobe(&probe->returned.kp);
}

static int register_one(struct ptap_probe *probe)
{
	struct kprobe *kprobe = &probe->returned.kp;
	u64 behind;
	int error;

	error = probe->kind == PTAP_PROBE_KIND_RETURN ? register_kretprobe(&probe->returned) : register_kprobe(kprobe);
	if (error)
		return ptap_refuse(error, "the kernel does not probe %s+%#x (error %d)", probe->symbol, kprobe->offset,
				   error);
	behind = (u64)(unsigned long)kprobe->addr - probe->address;
	if (probe->address && behind && behind != ENDBR_SIZE) {
		unregister(probe);
		return ptap_refuse(-EXDEV, "%s+%#x is not the place that was meant: vmlinux is of another kernel, or the name is not unique",
				   probe->symbol, kprobe->offset);
	}
	return 0;
}

int ptap_probe_register_all(void)
{
	u32 index;

	for (index = 0; index < ptap_session.probe_count; index++) {
		int error = register_one(ptap_session.probes[index]);

		if (error) {
			while (index--)
				unregister(ptap_session.probes[index]);
			return error;
		}
	}
	return 0;
}

void ptap_probe_unregister_all(void)
{
	u32 index;

	for (index = 0; index < ptap_session.probe_count; index++)
		unregister(ptap_session.probes[index]);
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

static unsigned long missed_by(const struct ptap_probe *probe)
{
	return probe->returned.kp.nmissed + (probe->kind == PTAP_PROBE_KIND_RETURN ? probe->returned.nmissed : 0);
}

u64 ptap_probe_missed(void)
{
	u64 missed = 0;
	u32 index;

	for (index = 0; index < ptap_session.probe_count; index++)
		missed += missed_by(ptap_session.probes[index]);
	return missed;
}

void ptap_probe_show(struct seq_file *file)
{
	u32 index;

	for (index = 0; index < ptap_session.probe_count; index++) {
		const struct ptap_probe *probe = ptap_session.probes[index];

		seq_printf(file, "probe %u %s+%#x missed %lu\n", probe->number, probe->symbol,
			   probe->returned.kp.offset, missed_by(probe));
	}
}
