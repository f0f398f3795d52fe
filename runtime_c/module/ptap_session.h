/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The one session of the module: what user space told it (tables, probes, how to record), and what each CPU works with.
 *
 * It is built up by messages, started once and stopped once. From start to stop nothing of it changes but what belongs
 * to the CPUs and the list of code, which is replaced as a whole, so probes read it without a lock.
 */
#ifndef PTAP_SESSION_H
#define PTAP_SESSION_H

#include <linux/mutex.h>
#include <linux/percpu.h>

#include "ptap_gather.h"
#include "ptap_pack.h"
#include "ptap_predicate.h"
#include "ptap_record.h"
#include "ptap_ring.h"
#include "ptap_slices.h"
#include "ptap_user_walk.h"
#include "ptap_walk.h"

#define PTAP_MAXIMUM_TABLES 64
#define PTAP_ORACLE_FRAMES PTAP_MAXIMUM_FRAMES

enum ptap_state {
	PTAP_CONFIGURING = 0,
	PTAP_STARTED,
	PTAP_STOPPED,
};

/* Working memory of one CPU: too large for a stack, and in use by one hit at a time. */
struct ptap_cpu {
	struct ptap_ring ring;
	u32 busy; /* hits on their way: one, but where a probe is hit inside of one */
	u64 hits;
	u64 dropped;
	u64 unwanted; /* neither dropped nor recorded: the predicate does not hold */
	struct ptap_cursor cursor;
	struct ptap_scratch scratch;
	struct ptap_remembered remembered;
	struct ptap_stack_words words;
	struct ptap_frame frames[PTAP_MAXIMUM_FRAMES];
	struct ptap_predicate_frame seen[PTAP_MAXIMUM_FRAMES + PTAP_MAXIMUM_USER_FRAMES]; /* for the predicate */
	unsigned long oracle[PTAP_ORACLE_FRAMES];
	struct ptap_user_walk user;
	struct ptap_writer writer;
	u64 gathered[PTAP_GATHERED_WORDS]; /* to be packed */
};

struct ptap_code;
struct ptap_probe;

struct ptap_session {
	struct mutex lock; /* of everything, from user space */
	enum ptap_state state;
	pid_t owner; /* the process that has started it: its own work is not recorded */
	u64 slide;
	u32 anchors; /* that agree on the slide */
	struct ptap_mapping mappings[PTAP_MAXIMUM_TABLES];
	u32 mapping_count;
	struct ptap_code __rcu *code; /* what walks go by: these, and modules (ptap_module.h) */
	u32 needed; /* the registers that walks through them need */
	u64 trampoline; /* run-time address, 0 for none */
	struct ptap_probe **probes;
	u32 probe_count;
	u32 maximum_frames;
	u32 slices;
	u32 flags;
	u32 flat_bytes;
	struct ptap_cpu **cpus; /* by number; null for one that is not possible */
	char error[200]; /* why the last message was refused, for people */
};

extern struct ptap_session ptap_session;

/* A number for mappings that have changed, or are new, of the kernel or of a process: no others have had it. */
u32 ptap_next_generation(void);

/* Where no address is to be remembered: what is in place of the generation of the mappings (struct ptap_walk). */
static inline u32 ptap_session_renewed(void)
{
	return unlikely(ptap_session.flags & PTAP_START_FLAG_FORGET) ? ptap_next_generation() : 0;
}

/* Note for people why something was refused, and return `error`. */
__printf(2, 3) int ptap_refuse(int error, const char *format, ...);

#endif
