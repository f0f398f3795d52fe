/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Integer types and their limits, in the kernel and outside of it. */
#ifndef PTAP_INTEGERS_H
#define PTAP_INTEGERS_H

#ifdef __KERNEL__
#include <linux/limits.h>
#include <linux/types.h>

#ifndef INT64_MIN
#define INT64_MIN S64_MIN
#endif
#ifndef UINT32_MAX
#define UINT32_MAX U32_MAX
#endif
#else
#include <stdint.h>
#endif

#endif
