// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The predicate of the session. From start to stop it does not change, so that probes read it without a lock. */

#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "ptap_predicate.h"
#include "ptap_record.h"
#include "ptap_session.h"
#include "ptap_when.h"

static struct {
	void *program; /* null: every stack is wanted */
	struct ptap_predicate predicate;
	bool asks_for_task; /* it has terms that need no stack */
} when;

static bool asks_for_task(const struct ptap_predicate *predicate)
{
	u32 index;

	for (index = 0; index < predicate->program->instruction_count; index++) {
		const struct ptap_predicate_instruction *instruction = &predicate->instructions[index];

		if (instruction->operation == PTAP_OPERATION_COMM ||
		    (instruction->operation == PTAP_OPERATION_COMPARE && instruction->operand >= PTAP_MEASURE_PID))
			return true;
	}
	return false;
}

int ptap_when_add(const void *message, size_t size)
{
	enum ptap_predicate_fault fault;
	void *program;

	if (when.program)
		return ptap_refuse(-EBUSY, "a second predicate");
	program = kvmalloc(size, GFP_KERNEL);
	if (!program)
		return ptap_refuse(-ENOMEM, "no memory for a predicate of %zu bytes", size);
	memcpy(program, message, size);
	fault = ptap_predicate_check(program, size, &when.predicate);
	if (fault != PTAP_PREDICATE_SOUND) {
		kvfree(program);
		return ptap_refuse(-EBADMSG, "a damaged predicate: fault %d", fault);
	}
	when.asks_for_task = asks_for_task(&when.predicate);
	when.program = program;
	return 0;
}

void ptap_when_free(void)
{
	kvfree(when.program);
	when.program = NULL;
}

static enum ptap_verdict verdict_on(struct ptap_predicate_input *input)
{
	input->pid = current->tgid;
	input->tid = current->pid;
	input->comm = (const u8 *)current->comm;
	return ptap_predicate_evaluate(&when.predicate, input);
}
NOKPROBE_SYMBOL(verdict_on);

bool ptap_when_refuses_task(struct ptap_cpu *cpu)
{
	struct ptap_predicate_input input = {};

	if (!when.program || !when.asks_for_task || verdict_on(&input) != PTAP_VERDICT_FALSE)
		return false;
	cpu->unwanted++;
	return true;
}
NOKPROBE_SYMBOL(ptap_when_refuses_task);

/* The frames of the kernel as its predicate sees them. Code outside of vmlinux may be any function of a module. */
static void take_kernel_frames(struct ptap_cpu *cpu, u32 count)
{
	const struct ptap_predicate_program *program = when.predicate.program;
	u32 index;

	for (index = 0; index < count; index++) {
		const struct ptap_frame *frame = &cpu->frames[index];
		u64 before = frame->flags & (PTAP_FRAME_EXACT | PTAP_FRAME_SIGNAL) ? 0 : 1;
		u64 address = frame->pc - before - ptap_session.slide;

		cpu->seen[index].address = address;
		cpu->seen[index].file = address >= program->known_start && address < program->known_end ?
						PTAP_FILE_KERNEL :
						PTAP_FILE_UNKNOWN;
	}
}
NOKPROBE_SYMBOL(take_kernel_frames);

bool ptap_when_refuses_stack(struct ptap_cpu *cpu, u32 count, int stop, u32 *flags)
{
	struct ptap_predicate_input input = {
		.frames = cpu->seen,
		.kernel_count = count,
		.count = count,
		.first = *flags & PTAP_HIT_FLAG_RETURN_PROBE ? 0 : 1,
	};
	enum ptap_verdict verdict;

	if (!when.program)
		return false;
	take_kernel_frames(cpu, count);
	/* A stack that ends in the kernel has no frames of a user. */
	if (stop == PTAP_STOP_REASON_END_OF_STACK)
		input.whole = *flags & PTAP_HIT_FLAG_REACHED_USER ? PTAP_SIDE_KERNEL : PTAP_SIDE_BOTH;
	verdict = verdict_on(&input);
	if (verdict == PTAP_VERDICT_FALSE) {
		cpu->unwanted++;
		return true;
	}
	*flags |= verdict == PTAP_VERDICT_TRUE ? PTAP_HIT_FLAG_WANTED : PTAP_HIT_FLAG_UNDECIDED;
	return false;
}
NOKPROBE_SYMBOL(ptap_when_refuses_stack);
