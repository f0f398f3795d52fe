// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Predicates' programs from standard input, checked and run in memory of exactly their size: a sanitizer sees every
 * byte that is read beside it.
 *
 * A case is a struct run_case, the program, and the frames. The answer is a line: the fault, and the verdict where
 * there is none.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime_c/core/ptap_predicate.h"

struct run_case {
	uint64_t program_size;
	uint32_t frame_count;
	uint32_t kernel_count;
	uint32_t whole;
	uint32_t first;
	uint32_t pid;
	uint32_t tid;
	uint8_t comm[16];
};

struct run_frame {
	uint64_t address;
	uint64_t file;
};

/* `size` bytes of the input in memory of their own. */
static void *take(size_t size)
{
	void *taken = malloc(size ? size : 1);

	if (!taken || (size && fread(taken, size, 1, stdin) != 1))
		exit(1);
	return taken;
}

static void run(const struct run_case *each, const void *program, const struct run_frame *told)
{
	struct ptap_predicate_frame *frames = calloc(each->frame_count + 1, sizeof(*frames));
	uint8_t *comm = malloc(sizeof(each->comm));
	struct ptap_predicate_input input = { .frames = frames, .kernel_count = each->kernel_count,
					      .count = each->frame_count, .whole = each->whole,
					      .first = each->first, .pid = each->pid, .tid = each->tid, .comm = comm };
	struct ptap_predicate predicate;
	enum ptap_predicate_fault fault = ptap_predicate_check(program, each->program_size, &predicate);

	if (!frames || !comm)
		exit(1);
	memcpy(comm, each->comm, sizeof(each->comm));
	for (uint32_t index = 0; index < each->frame_count; index++)
		frames[index] = (struct ptap_predicate_frame){ told[index].address, (uint32_t)told[index].file };
	if (fault == PTAP_PREDICATE_SOUND)
		printf("0 %d\n", (int)ptap_predicate_evaluate(&predicate, &input));
	else
		printf("%d\n", (int)fault);
	fflush(stdout);
	free(frames);
	free(comm);
}

int main(void)
{
	struct run_case each;

	while (fread(&each, sizeof(each), 1, stdin) == 1) {
		void *program = take(each.program_size);
		void *frames = take(each.frame_count * sizeof(struct run_frame));

		run(&each, program, frames);
		free(program);
		free(frames);
	}
	return 0;
}
