/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The probes of the session. All functions run in process context, under its lock. */
#ifndef PTAP_PROBE_H
#define PTAP_PROBE_H

#include <linux/types.h>

struct seq_file;

/* Add the probe that the message tells; 0 or -errno. */
int ptap_probe_add(const void *message, size_t size);

/* Register all of them, or none: 0 or -errno. Their places are checked. */
int ptap_probe_register_all(void);

/* Unregister all of them; returns when no handler runs any more. */
void ptap_probe_unregister_all(void);

void ptap_probe_free_all(void);

/* Hits that the kernel itself has left out, as inside of another probe's handler: of all probes. */
u64 ptap_probe_missed(void);

/* A line a probe: its number and how many hits the kernel itself has left out. */
void ptap_probe_show(struct seq_file *file);

#endif
