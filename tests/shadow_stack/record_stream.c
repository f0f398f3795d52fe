// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Gathers steps, deltas and nodes, and writes them in blocks. */

#include "record_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_STEPS_MAXIMUM = 1 << 16, BLOCK_DELTAS_MAXIMUM = 1 << 20, BLOCK_NODES_MAXIMUM = 1 << 16 };

static FILE *output;
static struct step steps[BLOCK_STEPS_MAXIMUM];
static struct delta deltas[BLOCK_DELTAS_MAXIMUM];
static struct node nodes[BLOCK_NODES_MAXIMUM];
static size_t step_count, delta_count, node_count;

_Noreturn void give_up(const char *what)
{
	fprintf(stderr, "stepper: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
	exit(125);
}

void stream_open(int descriptor)
{
	output = fdopen(descriptor, "wb");
	if (!output)
		give_up("cannot write the records");
	setvbuf(output, NULL, _IOFBF, 1 << 20);
}

void stream_bytes(const void *data, size_t size)
{
	if (size && fwrite(data, size, 1, output) != 1)
		give_up("cannot write the records");
}

void stream_block(enum block_kind kind, int64_t a, int64_t b, int64_t c)
{
	int64_t words[] = { kind, a, b, c };

	stream_bytes(words, sizeof(words));
}

void stream_delta(uint64_t word, uint64_t value)
{
	if (delta_count == BLOCK_DELTAS_MAXIMUM)
		give_up("one step changed too much memory");
	deltas[delta_count++] = (struct delta){ word, value };
}

void stream_node(const struct node *node)
{
	if (node_count == BLOCK_NODES_MAXIMUM)
		give_up("one step made too many calls");
	nodes[node_count++] = *node;
}

void stream_steps(void)
{
	if (!step_count)
		return;
	stream_block(BLOCK_STEPS, (int64_t)step_count, (int64_t)delta_count, (int64_t)node_count);
	stream_bytes(steps, step_count * sizeof(*steps));
	stream_bytes(deltas, delta_count * sizeof(*deltas));
	stream_bytes(nodes, node_count * sizeof(*nodes));
	step_count = delta_count = node_count = 0;
}

void stream_step(struct step *step)
{
	step->delta_end = (int64_t)delta_count;
	steps[step_count++] = *step;
	/* Half of the room stays for what one step may bring. */
	if (step_count == BLOCK_STEPS_MAXIMUM || delta_count > BLOCK_DELTAS_MAXIMUM / 2 ||
	    node_count > BLOCK_NODES_MAXIMUM / 2)
		stream_steps();
}

void stream_close(void)
{
	stream_steps();
	if (fclose(output) != 0)
		give_up("cannot write the records");
}
