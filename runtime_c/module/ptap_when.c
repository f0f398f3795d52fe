// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The predicate of the session. From start to stop it does not change, so that probes read it without a lock. */

#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "ptap_predicate.h"
#include "ptap_record.h"
#include "ptap_session.h"
#include "ptap_space.h"
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

static nokprobe_inline enum ptap_verdict verdict_on(struct ptap_predicate_input *input)
{
	input->pid = current->tgid;
	input->tid = current->pid;
	input->comm = (const u8 *)current->comm;
	return ptap_predicate_evaluate(&when.predicate, input);
}

bool ptap_when_refuses_task(struct ptap_cpu *cpu)
{
	struct ptap_predicate_input input = {};

	if (!when.program || !when.asks_for_task || verdict_on(&input) != PTAP_VERDICT_FALSE)
		return false;
	cpu->unwanted++;
	return true;
}
NOKPROBE_SYMBOL(ptap_when_refuses_task);

/* The frames of the kernel as predicates see them. Code outside of vmlinux may be any function of a module. */
static nokprobe_inline void take_kernel_frames(struct ptap_cpu *cpu, u32 count)
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

/* The number of the file among the program's whose unwind table this is; PTAP_FILE_UNKNOWN for any other. */
static nokprobe_inline u32 file_of_table(const u8 *table)
{
	const struct ptap_predicate_program *program = when.predicate.program;
	const struct ptap_header *header = (const void *)table;
	u32 index;

	for (index = 0; table && index < program->file_count; index++) {
		const struct ptap_predicate_file *file = &when.predicate.files[index];

		if (file->build_id_size == header->build_id_size &&
		    !memcmp(file->build_id, header->build_id, sizeof(file->build_id)))
			return index + 1;
	}
	return PTAP_FILE_UNKNOWN;
}

/* Behind `count` frames of the kernel the user's, as predicates see them; how many these are. */
static nokprobe_inline u32 take_user_frames(struct ptap_cpu *cpu, u32 count)
{
	const struct ptap_user_walk *walk = &cpu->user;
	const struct ptap_space *space = current->mm ? ptap_space_of(current->mm) : NULL;
	u32 index, file = PTAP_FILE_UNKNOWN;
	s32 mapping = -1;

	/* Told anew since the walk: its mappings are others. */
	if (space && space->generation != walk->generation)
		space = NULL;
	for (index = 0; index < walk->frame_count; index++) {
		const struct ptap_frame *frame = &walk->frames[index];
		struct ptap_predicate_frame *seen = &cpu->seen[count + index];
		u64 before = frame->flags & (PTAP_FRAME_EXACT | PTAP_FRAME_SIGNAL) ? 0 : 1;
		bool known = space && frame->mapping >= 0 && frame->mapping < space->mapping_count;

		/* Frames side by side are often of one file. */
		if (known && frame->mapping != mapping) {
			mapping = frame->mapping;
			file = file_of_table(space->mappings[mapping].table);
		}
		seen->file = known ? file : PTAP_FILE_UNKNOWN;
		seen->address = frame->pc - before - (known ? space->mappings[frame->mapping].bias : 0);
	}
	return index;
}

static bool refuses(struct ptap_cpu *cpu, struct ptap_predicate_input *input, u32 *flags)
{
	enum ptap_verdict verdict;

	input->frames = cpu->seen;
	input->first = *flags & PTAP_HIT_FLAG_RETURN_PROBE ? 0 : 1;
	verdict = verdict_on(input);
	if (verdict == PTAP_VERDICT_FALSE)
		cpu->unwanted++;
	else if (verdict == PTAP_VERDICT_TRUE)
		*flags |= PTAP_HIT_FLAG_WANTED;
	return verdict == PTAP_VERDICT_FALSE;
}
NOKPROBE_SYMBOL(refuses);

bool ptap_when_refuses_kernel(struct ptap_cpu *cpu, u32 count, int stop, u32 *flags)
{
	struct ptap_predicate_input input = { .kernel_count = count, .count = count };

	if (!when.program)
		return false;
	take_kernel_frames(cpu, count);
	if (stop == PTAP_STOP_REASON_END_OF_STACK)
		input.whole = PTAP_SIDE_KERNEL;
	return refuses(cpu, &input, flags);
}
NOKPROBE_SYMBOL(ptap_when_refuses_kernel);

bool ptap_when_refuses_stack(struct ptap_cpu *cpu, u32 count, int stop, u32 *flags)
{
	struct ptap_predicate_input input = { .kernel_count = count, .count = count };

	if (!when.program || *flags & PTAP_HIT_FLAG_WANTED)
		return false;
	if (stop == PTAP_STOP_REASON_END_OF_STACK)
		input.whole = PTAP_SIDE_KERNEL;
	if (!(*flags & PTAP_HIT_FLAG_USER_STACK)) {
		/* A task that never was in user space has no frames there; behind any other the rest is not known. */
		if (!(*flags & PTAP_HIT_FLAG_REACHED_USER))
			input.whole |= PTAP_SIDE_USER;
	} else {
		input.count += take_user_frames(cpu, count);
		if (cpu->user.stop == PTAP_STOP_REASON_END_OF_STACK)
			input.whole |= PTAP_SIDE_USER;
	}
	if (refuses(cpu, &input, flags))
		return true;
	if (!(*flags & PTAP_HIT_FLAG_WANTED))
		*flags |= PTAP_HIT_FLAG_UNDECIDED;
	return false;
}
NOKPROBE_SYMBOL(ptap_when_refuses_stack);
