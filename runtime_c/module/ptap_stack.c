// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The stack of the current task is read as it is: it is mapped while the task runs. All else may not be there. */

#include <linux/compiler.h>
#include <linux/kprobes.h>
#include <linux/uaccess.h>

#include "ptap_session.h"
#include "ptap_slices.h"
#include "ptap_stack.h"
#include "ptap_trampoline.h"
#include "ptap_x86_64.h"

static u64 raw_word(const struct ptap_stack_words *words, u64 address, int *readable)
{
	unsigned long value = 0;

	*readable = 1;
	if (address - words->task_stack < THREAD_SIZE)
		/* Not checked by KASAN: what lies between the variables of a frame is read, too. */
		value = READ_ONCE_NOCHECK(*(unsigned long *)(unsigned long)address);
	else if (copy_from_kernel_nofault(&value, (void *)(unsigned long)address, sizeof(value)))
		*readable = 0;
	return value;
}
NOKPROBE_SYMBOL(raw_word);

u64 ptap_stack_word(struct ptap_stack_words *words, u64 address, int *readable)
{
	u64 value = raw_word(words, address, readable), found;
	int known;

	if (likely(value != ptap_session.trampoline) || !value)
		return value;
	words->replaced = 1;
	found = ptap_trampoline_replaced(address, value);
	/* Where a function had just returned to the trampoline when an interrupt came: the address was popped. */
	if (found == value)
		found = ptap_trampoline_replaced(
			raw_word(words, address + PTAP_SAVED_STACK_POINTER, &known) - sizeof(u64), value);
	return found;
}
NOKPROBE_SYMBOL(ptap_stack_word);

void ptap_stack_move(struct ptap_stack_words *words, u64 address)
{
	struct ptap_near *near = &words->near;

	if (address - words->task_stack < THREAD_SIZE) {
		near->start = words->task_stack;
		near->size = THREAD_SIZE;
	} else if (address - words->first_stack < THREAD_SIZE) {
		/* Of an interrupt or an exception: its pages are there as long as the processor is, but not of all sizes. */
		near->start = address & PAGE_MASK;
		near->size = PAGE_SIZE;
	} else {
		return;
	}
	near->content = (const u8 *)(unsigned long)near->start;
}
NOKPROBE_SYMBOL(ptap_stack_move);

enum ptap_read ptap_stack_read(void *context, uint64_t address, uint32_t size, uint64_t *value)
{
	struct ptap_stack_words *words = context;
	u64 aligned = address & ~7ull;
	u32 shift = 8 * (address & 7);
	int readable;

	/* Code of the kernel has its stack aligned; what is read across a word's end is damage. */
	if ((address & 7) + size > 8)
		return PTAP_READ_NOT_CAPTURED;
	*value = ptap_stack_word(words, aligned, &readable) >> shift;
	if (!readable)
		return PTAP_READ_NOT_CAPTURED;
	if (size < 8)
		*value &= (1ull << 8 * size) - 1;
	ptap_slices_note(words, aligned);
	ptap_stack_move(words, aligned);
	return PTAP_READ_DONE;
}
NOKPROBE_SYMBOL(ptap_stack_read);

int ptap_stack_reach(void *context, uint64_t low, uint32_t span)
{
	struct ptap_stack_words *words = context;
	int readable = 1;

	/* Of the task's stack all of it is there; of another one, what can be read. */
	if (low - words->task_stack >= THREAD_SIZE)
		raw_word(words, low, &readable);
	if (readable)
		ptap_stack_move(words, low);
	return readable;
}
NOKPROBE_SYMBOL(ptap_stack_reach);
