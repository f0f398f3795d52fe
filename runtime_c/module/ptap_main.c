// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Loading and unloading. */

#include <linux/init.h>
#include <linux/module.h>

#include "ptap_control.h"
#include "ptap_module.h"
#include "ptap_run.h"

static int __init ptap_init(void)
{
	int error = ptap_module_follow();

	if (error)
		return error;
	error = ptap_control_create();
	if (error)
		ptap_module_unfollow();
	return error;
}

static void __exit ptap_exit(void)
{
	ptap_control_remove();
	ptap_run_stop();
	ptap_module_unfollow();
	ptap_run_free();
}

/* By name, from outside of the unit. */
int init_module(void) __visible;
void cleanup_module(void) __visible;

module_init(ptap_init);
module_exit(ptap_exit);
MODULE_LICENSE("Dual BSD/GPL");
MODULE_DESCRIPTION("Stack traces by compact unwind tables");
