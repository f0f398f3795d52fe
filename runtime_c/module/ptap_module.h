/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Modules of the kernel whose code is probed or walked through: where their sections lie, now and when they are loaded
 * later. A module is known by its name; the addresses of its file are those of its sections one after the other.
 */
#ifndef PTAP_MODULE_H
#define PTAP_MODULE_H

#include <linux/types.h>

#include "ptap_walk.h"

struct module;
struct seq_file;

/* What the walk goes by; replaced as a whole, and read by whoever has preemption off. */
struct ptap_code {
	u32 generation; /* another number in each, so that no plan of the one before is used again */
	u32 needed; /* the registers that walks through it need */
	u32 count;
	struct ptap_mapping mappings[]; /* sorted */
};

/* Follow modules as they come and go, from loading to unloading of this one. */
int ptap_module_follow(void);
void ptap_module_unfollow(void);

/* Held while probes or sections change: by messages under the session's lock, and by the kernel's loader of modules. */
void ptap_module_lock(void);
void ptap_module_unlock(void);

/* Each takes its message's bytes; 0 or -errno, with the session's error written. */
int ptap_module_add(const void *message, size_t size);
int ptap_module_place(const void *message, size_t size);

/* Record where sections lie from now on, and make the list that walks go by: 0 or -errno. Under the lock. */
int ptap_module_begin(void);

/* Not any more. Under the lock. */
void ptap_module_end(void);

/*
 * Where `address` of the file of the module that `symbol` ("module:name") names lies: 0 when that is not known,
 * -errno as a pointer has it when what is loaded is another build.
 */
u64 ptap_module_address(const char *symbol, u64 address);

/* Whether `symbol` is "NAME:..." of that module. */
int ptap_module_is_of(const char *symbol, const char *name);

void ptap_module_free_all(void);
void ptap_module_show(struct seq_file *file);

#endif
