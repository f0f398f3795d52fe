// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A module has its symbols with their addresses while it is loaded. */
#include <linux/module.h>
#include <linux/rcupdate.h>

unsigned long first_symbol(const struct module *module);

unsigned long first_symbol(const struct module *module)
{
	const struct mod_kallsyms *symbols = rcu_dereference_sched(module->kallsyms);

	return symbols->symtab[symbols->num_symtab - 1].st_value + symbols->strtab[0];
}
