/* Execs the program in argv[1], or `exec_other.next` beside it, which has other code at the same addresses: both are
 * linked at a fixed address. A walk with the old program's mappings gives this program's names in the new one.
 */

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

__attribute__((noinline)) int before_exec(int value)
{
	__asm__ volatile("" : "+r"(value));
	return value + 1;
}

__attribute__((noinline)) int old_outer(int value)
{
	int result = before_exec(value);

	__asm__ volatile("" : "+r"(result));
	return result;
}

int main(int argc, char **argv)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s.next", argv[0]);
	if (old_outer(1) != 2)
		return 1;
	char *next = argc > 1 ? argv[1] : path;
	char *arguments[] = { next, NULL };
	execv(next, arguments);
	return 127;
}
