/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The two files of the module that is probed. */
#ifndef PTAP_PROBED_H
#define PTAP_PROBED_H

extern int ptap_probed_factor;

int ptap_probed_other(int value);

#endif
