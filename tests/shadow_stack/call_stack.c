// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The true call stack as a tree that only grows, so that every step can name the stack it had by one number. */

#include "call_stack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FLOORS_MAXIMUM = 16, SAME_STACK = 1 << 14, CHAIN_MAXIMUM = 256 };

/* Calls at and outside of `node` lie on another stack, and are not left by whatever the stack pointer does here. */
struct floor {
	int64_t node;
	uint64_t rsp;
	bool switched;
};

/* Where the function that a node's call entered keeps its caller's registers; 0 where it was not seen to. */
struct saved {
	uint64_t slots[REGISTERS];
};

static struct node *nodes;
static struct saved *saved;
static int64_t node_count, node_room;
static int64_t top = -1;
static struct floor floors[FLOORS_MAXIMUM];
static int floor_count;

int64_t call_stack_top(void)
{
	return top;
}

const struct node *call_stack_node(int64_t number)
{
	return &nodes[number];
}

static void add(enum node_kind kind, int64_t parent, uint64_t pc, uint64_t cfa, const uint64_t *registers)
{
	if (node_count == node_room) {
		node_room = node_room ? 2 * node_room : 1024;
		nodes = realloc(nodes, (size_t)node_room * sizeof(*nodes));
		saved = realloc(saved, (size_t)node_room * sizeof(*saved));
		if (!nodes || !saved)
			give_up("no memory");
	}
	struct node *node = &nodes[node_count];

	*node = (struct node){ .parent = parent, .kind = kind, .pc = pc, .cfa = cfa };
	memcpy(node->registers, registers, sizeof(node->registers));
	memset(&saved[node_count], 0, sizeof(*saved));
	stream_node(node);
	top = node_count++;
}

static void push_floor(int64_t node, uint64_t rsp, bool switched)
{
	if (floor_count == FLOORS_MAXIMUM)
		give_up("too many stacks");
	floors[floor_count++] = (struct floor){ node, rsp, switched };
}

void call_stack_push(const uint64_t *registers, uint64_t return_address)
{
	add(NODE_CALL, top, return_address, registers[RSP], registers);
}

void call_stack_leave(uint64_t rsp)
{
	int64_t floor = floor_count ? floors[floor_count - 1].node : -1;

	while (top != floor && nodes[top].cfa <= rsp)
		top = nodes[top].parent;
	/* What was popped is kept there no more. */
	for (int number = 0; top >= 0 && number < REGISTERS; number++)
		if (saved[top].slots[number] < rsp)
			saved[top].slots[number] = 0;
}

void call_stack_signal(const uint64_t *interrupted, const uint64_t *entry, uint64_t return_address)
{
	uint64_t distance = interrupted[RSP] - entry[RSP];

	add(NODE_INTERRUPTED, top, interrupted[RIP], interrupted[RSP], interrupted);
	if (distance > SAME_STACK)
		push_floor(top, interrupted[RSP], false);
	add(NODE_CALL, top, return_address, entry[RSP] + 8, entry);
}

bool call_stack_signal_return(void)
{
	while (top >= 0 && nodes[top].kind != NODE_INTERRUPTED)
		top = nodes[top].parent;
	if (top < 0)
		return false;
	if (floor_count && floors[floor_count - 1].node == top)
		floor_count--;
	top = nodes[top].parent;
	return true;
}

void call_stack_switch(uint64_t rsp)
{
	if (floor_count && floors[floor_count - 1].switched)
		floor_count--;
	else
		push_floor(top, rsp, true);
}

void call_stack_saved(int number, uint64_t value, uint64_t address)
{
	if (top >= 0 && nodes[top].kind != NODE_INTERRUPTED && !saved[top].slots[number] &&
	    nodes[top].registers[number] == value)
		saved[top].slots[number] = address;
}

static int64_t copy_of(int64_t number, int64_t parent)
{
	struct node copy = nodes[number];
	struct saved slots = saved[number];

	add(copy.kind, parent, copy.pc, copy.cfa, copy.registers);
	saved[top] = slots;
	for (int i = 0; i < floor_count; i++)
		if (floors[i].node == number)
			floors[i].node = top;
	return top;
}

/*
 * Nodes that were written are never changed: new ones take the place of `number` and of those inside of it, with
 * another value for the return address (RIP), or for a saved register.
 *
 * A caller that did not save the register itself hands the new value on to its own caller, and so on outward.
 */
static void replace(int64_t number, int which, uint64_t value)
{
	int64_t chain[CHAIN_MAXIMUM], outer = number;
	int count = 0, position;

	if (which != RIP)
		while (nodes[outer].parent >= 0 && nodes[nodes[outer].parent].kind != NODE_INTERRUPTED &&
		       !saved[nodes[outer].parent].slots[which])
			outer = nodes[outer].parent;
	for (int64_t each = top; each != nodes[outer].parent; each = nodes[each].parent) {
		if (count == CHAIN_MAXIMUM)
			give_up("the stack is too deep");
		chain[count++] = each;
	}
	int64_t parent = nodes[outer].parent;
	bool inside = false;

	for (position = count - 1; position >= 0; position--) {
		int64_t each = chain[position];
		struct node kept = nodes[each];

		if (!inside) {
			if (which == RIP) {
				nodes[each].pc = value;
				nodes[each].kind = NODE_REWRITTEN;
			} else {
				nodes[each].registers[which] = value;
			}
		}
		inside |= each == number;
		parent = copy_of(each, parent);
		nodes[each] = kept;
	}
}

bool call_stack_store(uint64_t address, uint64_t value)
{
	for (int64_t number = top; number >= 0; number = nodes[number].parent) {
		if (nodes[number].kind == NODE_INTERRUPTED)
			continue;
		if (nodes[number].cfa - 8 == address && nodes[number].pc != value) {
			replace(number, RIP, value);
			return true;
		}
		for (int which = 0; which < RIP; which++) {
			if (saved[number].slots[which] == address && nodes[number].registers[which] != value) {
				replace(number, which, value);
				return false;
			}
		}
	}
	return false;
}

uint64_t call_stack_low(uint64_t rsp)
{
	for (int i = 0; i < floor_count; i++)
		if (floors[i].rsp < rsp)
			rsp = floors[i].rsp;
	return rsp;
}
