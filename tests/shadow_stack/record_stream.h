/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the stepper writes: blocks of 64-bit little-endian words, read by recorded_run.py.
 *
 * Each block begins with four words: its kind and three numbers.
 *   START  pid, number of regions, words of the image; then for each region: address, first word of the image, words
 *   MAPS   bytes of text; then the executable lines of /proc/PID/maps, padded to a word with zeros
 *   STEPS  steps, deltas, nodes; then the three arrays below
 *   END    exit status of the program as waitpid gives it
 */
#ifndef RECORD_STREAM_H
#define RECORD_STREAM_H

#include <stdint.h>
#include <stdio.h>

enum block_kind { BLOCK_START = 1, BLOCK_MAPS, BLOCK_STEPS, BLOCK_END };

enum {
	REGISTERS = 17, /* DWARF numbers 0-15, then rip */
	RBX = 3,
	RBP = 6,
	RSP = 7,
	RIP = 16,
};

/* One state between two instructions. */
struct step {
	uint64_t registers[REGISTERS];
	int64_t node; /* the innermost call that has not returned, -1 for none */
	uint64_t low; /* the lowest address of the main stack that is in use */
	int64_t delta_end; /* index, in the block, after the last delta that leads to this state */
	uint64_t flags;
};

enum step_flag {
	STEP_REWROTE_RETURN = 1, /* the last instruction wrote into the slot of a return address that is in use */
	STEP_REPEATED = 2, /* one more turn of an instruction with a repeat prefix */
	STEP_RETURNED_ELSEWHERE = 4, /* a return went to another place than the call's next instruction */
};

/* One changed word of the image. */
struct delta {
	uint64_t word;
	uint64_t value;
};

enum node_kind {
	NODE_CALL,
	NODE_INTERRUPTED,
	NODE_REWRITTEN, /* a call whose return address is not the next instruction's any more */
};

/* A call that has not returned, or a place that a signal interrupted. Nodes are numbered over the whole run. */
struct node {
	int64_t parent;
	uint64_t kind;
	uint64_t pc; /* the return address, or where the signal came */
	uint64_t cfa; /* the stack pointer after the return */
	uint64_t registers[REGISTERS]; /* at the call instruction, or when the signal came */
};

void stream_open(int descriptor);
void stream_block(enum block_kind kind, int64_t a, int64_t b, int64_t c);
void stream_bytes(const void *data, size_t size);
void stream_delta(uint64_t word, uint64_t value);
void stream_node(const struct node *node);
/* Add a step after its deltas; a full block is written. */
void stream_step(struct step *step);
/* Write what is gathered as one block. */
void stream_steps(void);
void stream_close(void);

/* Say what is wrong and end. */
_Noreturn void give_up(const char *what);

#endif
