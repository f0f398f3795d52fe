/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The files through which user space speaks with the module. */
#ifndef PTAP_CONTROL_H
#define PTAP_CONTROL_H

int ptap_control_create(void);
void ptap_control_remove(void);

#endif
