/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Probes in programs and libraries: in every process that maps the file, by the inode that its path leads to. */
#ifndef PTAP_USER_PROBE_H
#define PTAP_USER_PROBE_H

#include <linux/types.h>

struct ptap_probe_message;
struct seq_file;

/* Add one; 0 or -errno, with the session's `error` written. As all of these in process context, under its lock. */
int ptap_user_probe_add(const struct ptap_probe_message *message);

/* Register all of them, or none. */
int ptap_user_probe_register_all(void);

/* Unregister all of them; returns when no handler runs any more. */
void ptap_user_probe_unregister_all(void);

void ptap_user_probe_free_all(void);

/* A line a probe. */
void ptap_user_probe_show(struct seq_file *file);

#endif
