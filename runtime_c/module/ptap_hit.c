// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The hit of a probe. It runs with preemption off, in any context: it takes no lock, allocates nothing, calls nothing
 * that may sleep, and every loop is bounded.
 */

#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/task_stack.h>
#include <linux/smp.h>
#include <linux/stacktrace.h>
#include <linux/string.h>
#include <linux/timekeeping.h>

#include "ptap_hit.h"
#include "ptap_module.h"
#include "ptap_record.h"
#include "ptap_session.h"
#include "ptap_slices.h"
#include "ptap_stack.h"
#include "ptap_target.h"
#include "ptap_when.h"
#include "ptap_x86_64.h"

#define HIT_WORDS 2 /* of every hit: where the walk ended, the slide */

/* What the walk of one hit came to. */
struct walked {
	int stop;
	u64 detail;
	u32 frames;
	u32 oracle;
	u32 flags;
};

static void walk_stack(struct ptap_cpu *cpu, struct walked *walked)
{
	/* Preemption is off: the list stays until this walk's end. */
	const struct ptap_code *code = rcu_dereference_raw(ptap_session.code);
	const struct ptap_memory memory = {
		.read = ptap_stack_read,
		.context = &cpu->words,
		.near = &cpu->words.near,
		.reach = ptap_stack_reach,
	};
	struct ptap_walk walk = {
		.mappings = code->mappings,
		.mapping_count = code->count,
		.memory = &memory,
		.frames = cpu->frames,
		.room = ptap_session.maximum_frames,
		.scratch = &cpu->scratch,
		.without_registers = 1,
		.generation = code->generation,
		.renewed = ptap_session_renewed(),
		.trampoline = ptap_session.trampoline,
		.unwanted = ~code->needed,
	};

	walked->stop = ptap_walk(&walk, &cpu->cursor);
	walked->detail = cpu->cursor.detail;
	walked->frames = walk.count;
	/* Behind the registers that were saved when the kernel was entered comes the code that entered it. */
	if (walked->stop == PTAP_STOP_REASON_NO_MAPPING && walk.count && ptap_is_user_pc(walked->detail)) {
		walked->stop = PTAP_STOP_REASON_END_OF_STACK;
		walked->flags |= PTAP_HIT_FLAG_REACHED_USER;
	}
}
NOKPROBE_SYMBOL(walk_stack);

static void fill_header(struct ptap_hit *hit, const struct ptap_cpu *cpu, u32 probe, const struct walked *walked)
{
	const struct ptap_user_walk *user = &cpu->user;
	int has_user = walked->flags & PTAP_HIT_FLAG_USER_STACK;

	hit->magic = PTAP_RECORD_MAGIC;
	hit->version = PTAP_RECORD_VERSION;
	hit->kind = PTAP_RECORD_KIND_HIT;
	hit->cpu = smp_processor_id();
	hit->sequence = cpu->hits;
	hit->dropped = cpu->dropped;
	hit->time_ns = ktime_get_mono_fast_ns();
	hit->pid = current->tgid;
	hit->tid = current->pid;
	hit->probe = probe;
	memcpy(hit->comm, current->comm, sizeof(hit->comm));
	hit->flags = walked->flags | (cpu->words.noted.left_out ? PTAP_HIT_FLAG_WORDS_LEFT_OUT : 0);
	hit->known = walked->flags & PTAP_HIT_FLAG_CALLED ? PTAP_KEPT_BY_CALLS : PTAP_ALL_REGISTERS;
	hit->frame_count = walked->frames;
	hit->run_count = cpu->words.noted.count;
	hit->oracle_count = walked->oracle;
	hit->stop = walked->stop;
	hit->user_known = has_user ? user->known : 0;
	hit->user_frame_count = has_user ? user->frame_count : 0;
	hit->user_run_count = has_user ? user->memory.run_count : 0;
	hit->user_stop = has_user ? user->stop : 0;
}
NOKPROBE_SYMBOL(fill_header);

/* What the record has at the most. */
struct most {
	u32 words, bytes;
};

static struct most most_of(const struct ptap_cpu *cpu, const struct walked *walked)
{
	u32 words = HIT_WORDS + PTAP_REGISTER_COUNT + walked->frames + walked->oracle + cpu->words.run_words;
	u32 runs = cpu->words.noted.count, flat = 0;

	if (walked->flags & PTAP_HIT_FLAG_USER_STACK) {
		runs += cpu->user.memory.run_count;
		words += ptap_user_words(&cpu->user);
		if (walked->flags & PTAP_HIT_FLAG_USER_FLAT)
			flat = sizeof(struct ptap_flat) + cpu->user.flat_bytes;
	}
	/* A run may need a word for its address. */
	words += runs;
	return (struct most){
		words, ALIGN(sizeof(struct ptap_hit) + runs * sizeof(struct ptap_run_told) + PTAP_PACKED_BYTES(words), 8) + flat
	};
}
NOKPROBE_SYMBOL(most_of);

/* What every record has; behind it. The walk has moved the cursor on, so the registers are taken anew. */
static u64 *gather_words(struct ptap_cpu *cpu, const struct walked *walked, const struct pt_regs *regs, u64 pc)
{
	u64 *to = cpu->gathered;

	*to++ = walked->detail;
	*to++ = ptap_session.slide;
	if (likely(!(walked->flags & PTAP_HIT_FLAG_CALLED))) {
		ptap_registers_at(to, regs, pc);
		to += PTAP_REGISTER_COUNT;
	} else {
		ptap_registers_at(cpu->cursor.registers, regs, pc);
		to = ptap_gather_registers(to, cpu->cursor.registers, PTAP_KEPT_BY_CALLS);
	}
	return ptap_gather_pcs(to, cpu->frames, walked->frames);
}
NOKPROBE_SYMBOL(gather_words);

/* Write what comes behind the fixed part, as its counts say, `most` words; behind it. */
static void *write_words(struct ptap_cpu *cpu, struct ptap_hit *hit, const struct walked *walked,
			 const struct pt_regs *regs, u64 pc, u32 most)
{
	struct ptap_writer *writer = &cpu->writer;
	u32 unread;
	u32 *end;

	ptap_pack_begin(writer, hit + 1, hit->run_count + hit->user_run_count, most);
	ptap_pack_words(writer, cpu->gathered, gather_words(cpu, walked, regs, pc) - cpu->gathered);
	ptap_runs_begin(writer, regs->sp);
	unread = ptap_slices_write(&cpu->words, writer);
	hit->unread = min_t(u32, unread, U16_MAX);
	if (unlikely(walked->oracle))
		ptap_pack_words(writer, (const u64 *)cpu->oracle, walked->oracle);
	if (walked->flags & PTAP_HIT_FLAG_USER_STACK)
		ptap_user_write(&cpu->user, writer, cpu->gathered);
	hit->word_count = writer->words;
	hit->high_count = writer->highs.count;
	end = ptap_pack_end(writer);
	if ((unsigned long)end % 8)
		*end++ = 0;
	return walked->flags & PTAP_HIT_FLAG_USER_FLAT ? ptap_user_write_flat(&cpu->user, end) : end;
}
NOKPROBE_SYMBOL(write_words);

/* Forget a stack that is not wanted. */
static nokprobe_inline int left_out(struct ptap_cpu *cpu)
{
	ptap_slices_forget(&cpu->words);
	return 1;
}

/* Where the walk of a hit begins. */
static void begin_walk(struct ptap_cursor *cursor, const struct pt_regs *regs, u64 pc, u32 flags)
{
	ptap_cursor_at(cursor, regs, pc);
	if (flags & PTAP_HIT_FLAG_CALLED)
		ptap_cursor_of_caller(cursor);
}
NOKPROBE_SYMBOL(begin_walk);

/* Walk and record what is wanted; 0 when there is no room for the record, or never is, and nothing was written. */
static int record(struct ptap_cpu *cpu, u32 probe, const struct pt_regs *regs, u64 pc, u32 flags)
{
	struct walked walked = { .flags = flags };
	struct ptap_hit *hit;
	struct most most;

	if (ptap_when_refuses_task(cpu))
		return 1;
	ptap_slices_begin(&cpu->words, (u64)(unsigned long)task_stack_page(current), regs->sp, ptap_session.trampoline);
	begin_walk(&cpu->cursor, regs, pc, flags);
	if (ptap_are_users(regs))
		walked.flags |= PTAP_HIT_FLAG_REACHED_USER;
	else
		walk_stack(cpu, &walked);
	if (ptap_when_refuses_kernel(cpu, walked.frames, walked.stop, &walked.flags))
		return left_out(cpu);
	if (!(ptap_session.flags & PTAP_START_FLAG_NO_USER)) {
		ptap_user_walk(&cpu->user, regs);
		walked.flags |= cpu->user.flags;
	}
	if (ptap_when_refuses_stack(cpu, walked.frames, walked.stop, &walked.flags))
		return left_out(cpu);
	if (ptap_session.slices != PTAP_SLICES_NONE)
		ptap_slices_gather(&cpu->words);
	else
		ptap_slices_forget(&cpu->words);
	if (ptap_session.flags & PTAP_START_FLAG_ORACLE)
		walked.oracle = stack_trace_save(cpu->oracle, PTAP_ORACLE_FRAMES, 0);
	most = most_of(cpu, &walked);
	hit = likely(most.words <= U16_MAX) ? ptap_ring_reserve(&cpu->ring, most.bytes) : NULL;
	if (!hit)
		return 0;
	fill_header(hit, cpu, probe, &walked);
	hit->length = write_words(cpu, hit, &walked, regs, pc, most.words) - (void *)hit;
	ptap_ring_commit(&cpu->ring, hit->length);
	return 1;
}
NOKPROBE_SYMBOL(record);

void ptap_hit(u32 probe, const struct pt_regs *regs, u64 pc, u32 flags)
{
	struct ptap_cpu *cpu;
	u32 inside;

	if (current->tgid == ptap_session.owner || ptap_target_passes_over())
		return;
	preempt_disable_notrace();
	cpu = ptap_session.cpus[smp_processor_id()];
	/* An interrupt that comes in between leaves these as it found them, or counts further: no hit is lost uncounted. */
	inside = cpu->busy++;
	/* Only then: a hit inside of this one has no record, so each record's number is its own. */
	barrier();
	cpu->hits++;
	if (inside || !record(cpu, probe, regs, pc, flags))
		cpu->dropped++;
	cpu->busy--;
	preempt_enable_notrace();
}
NOKPROBE_SYMBOL(ptap_hit);
