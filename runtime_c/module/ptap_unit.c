// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * All of the module in one unit, so that its functions are local: the compiler joins them, calls between them need no
 * relocation (24 bytes each), and the kernel's headers are read once. Kbuild takes its list of files from here.
 */

#include "ptap_main.c"
#include "ptap_session.c"
#include "ptap_run.c"
#include "ptap_control.c"
#include "ptap_probe.c"
#include "ptap_event.c"
#include "ptap_timer.c"
#include "ptap_module.c"
#include "ptap_stack.c"
#include "ptap_trampoline.c"
#include "ptap_space.c"
#include "ptap_user_walk.c"
#include "ptap_user_probe.c"
#include "ptap_return_instance.c"
#include "ptap_when.c"
#include "ptap_target.c"
#include "core/ptap_check.c"
#include "core/ptap_checksum.c"
#include "core/ptap_expression.c"
#include "core/ptap_plan.c"
#include "core/ptap_step.c"
#include "core/ptap_walk.c"
#include "core/ptap_predicate.c"
#include "core/ptap_predicate_check.c"

/* What every hit spends its time in. Behind the others: functions of headers are compiled as they are first seen. */
#pragma GCC push_options
#pragma GCC optimize("O2")
#include "ptap_hit.c"
#include "ptap_pack.c"
#include "ptap_slices.c"
#include "ptap_ring.c"
#include "ptap_x86_64.c"
#include "ptap_user_memory.c"
#include "core/ptap_lookup.c"
#include "core/ptap_follow.c"
#pragma GCC pop_options
