// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The file that a process has mapped may be another one than that which its pages come from. */
#include <linux/fs.h>

unsigned long number_of(const struct file *file);

unsigned long number_of(const struct file *file)
{
	return file_user_inode(file)->i_ino;
}
