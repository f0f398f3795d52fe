/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The course of the session: it is built up by messages, started once and stopped once. */
#ifndef PTAP_RUN_H
#define PTAP_RUN_H

#include <linux/types.h>

/* Each takes its message's bytes, under the session's lock; 0 or -errno, with `error` written. */
int ptap_run_add_anchor(const void *message, size_t size);
int ptap_run_add_table(const void *message, size_t size);
int ptap_run_add_trampoline(const void *message, size_t size);
int ptap_run_start(const void *message, size_t size);

/* Unregister the probes and end every CPU's records; to be read still. Does nothing to one that is not started. */
void ptap_run_stop(void);

/* Forget everything. */
void ptap_run_free(void);

#endif
