/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The probes of the session. All functions run in process context, under its lock or that of modules. */
#ifndef PTAP_PROBE_H
#define PTAP_PROBE_H

#include <linux/types.h>

struct module;
struct seq_file;

/* Add the probe that the message tells; 0 or -errno. */
int ptap_probe_add(const void *message, size_t size);

/*
 * Register all of them, or none: 0 or -errno. Their places are checked. Those of a module that is not loaded wait for
 * it, and optional ones may be refused.
 */
int ptap_probe_register_all(void);

/* Unregister all of them; returns when no handler runs any more. */
void ptap_probe_unregister_all(void);

/* A module is about to run its first code, or (with `init_only`) has lost that code, or is unloaded. */
void ptap_probe_module_coming(const struct module *module);
void ptap_probe_module_leaving(const struct module *module, int init_only);

/* A module is about to be unloaded, and still has its tracepoints: probes of these come off. */
void ptap_probe_module_going(const struct module *module);

void ptap_probe_free_all(void);

/* Hits that the kernel itself has left out, as inside of another probe's handler: of all probes. */
u64 ptap_probe_missed(void);

/* A line a probe: its number and how many hits the kernel itself has left out. */
void ptap_probe_show(struct seq_file *file);

#endif
