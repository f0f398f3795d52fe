// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A module to be probed: functions in several sections of code, one of them for its start alone. */

#include <linux/init.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/sched.h>
#include <linux/seq_file.h>

#include "ptap_probed.h"

#define CREATE_TRACE_POINTS
#include "ptap_probed_trace.h"

static inline int folded(int value)
{
	return value * 3 + READ_ONCE(ptap_probed_factor);
}

/* By this name there is another one in the module's other file. */
static noinline int twice(int value)
{
	return folded(value) * 2;
}

static noinline __section(".text.hot_part") int innermost(int value)
{
	schedule_timeout_uninterruptible(1);
	return twice(value) + 1;
}

static noinline int outer(int value)
{
	return innermost(value) + ptap_probed_other(value);
}

static int show(struct seq_file *file, void *unused)
{
	seq_printf(file, "%d\n", outer(ptap_probed_factor));
	trace_ptap_probed_shown(ptap_probed_factor);
	return 0;
}

static noinline __init int initial_part(int value)
{
	schedule_timeout_uninterruptible(1);
	return folded(value);
}

static int __init ptap_probed_init(void)
{
	if (initial_part(3) < 0 || !proc_create_single("ptap_probed", 0444, NULL, show))
		return -ENOMEM;
	return 0;
}

static void __exit ptap_probed_exit(void)
{
	remove_proc_entry("ptap_probed", NULL);
}

module_init(ptap_probed_init);
module_exit(ptap_probed_exit);
MODULE_LICENSE("Dual BSD/GPL");
MODULE_DESCRIPTION("Code for probes");
