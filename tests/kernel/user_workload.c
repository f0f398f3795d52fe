/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Deep user stacks without frame pointers, each ending in a read of /dev/zero; a list of the calls that are active is
 * kept beside them, and written for each read: what a walk has to find.
 */

#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fcntl.h>

#define MOST 512

static void *active[MOST]; /* return addresses into our own code, outermost first */
static int depth;
static FILE *notes;
static int zeroes;

/* Enter a function: where it returns to. */
#define ENTER() (active[depth++] = __builtin_return_address(0))
#define LEAVE() (depth--)
#define APART __attribute__((noinline, noipa))

/* One line a read: its kind, then the calls. */
static void note(const char *kind)
{
	fprintf(notes, "%s %d", kind, getpid());
	for (int index = depth; index-- > 0;)
		fprintf(notes, " %p", active[index]);
	fputc('\n', notes);
	fflush(notes);
}

APART int probed(const char *kind)
{
	char buffer[8];

	ENTER();
	note(kind);
	if (read(zeroes, buffer, sizeof(buffer)) != sizeof(buffer))
		abort();
	LEAVE();
	return depth;
}

APART int narrow(const char *kind, int levels);

APART int wide(const char *kind, int levels)
{
	volatile char room[3000];
	int result;

	ENTER();
	memset((char *)room, levels, sizeof(room));
	result = narrow(kind, levels - 1) + room[levels];
	LEAVE();
	return result;
}

APART int narrow(const char *kind, int levels)
{
	int result;

	ENTER();
	if (levels <= 0)
		result = probed(kind);
	else if (levels % 8 == 0)
		result = wide(kind, levels);
	else
		result = narrow(kind, levels - 1) + 1;
	LEAVE();
	return result;
}

static int compared;

/* Called by libc. */
static APART int compare(const void *left, const void *right)
{
	ENTER();
	if (!compared++)
		probed("callback");
	LEAVE();
	return *(const int *)left - *(const int *)right;
}

APART void sorted(void)
{
	int values[] = { 3, 1, 2 };

	ENTER();
	compared = 0;
	qsort(values, 3, sizeof(values[0]), compare);
	LEAVE();
}

static APART void handler(int number)
{
	(void)number;
	ENTER();
	probed("signal");
	LEAVE();
}

APART void signalled(void)
{
	ENTER();
	raise(SIGUSR1);
	LEAVE();
}

APART void forked(void)
{
	pid_t child;

	ENTER();
	child = fork();
	if (!child) {
		narrow("child", 5);
		fflush(notes);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	LEAVE();
}

APART void one_round(void)
{
	ENTER();
	narrow("deep", 60);
	narrow("shallow", 3);
	sorted();
	signalled();
	forked();
	LEAVE();
}

/* Wait until the file is there. */
static int await(const char *path)
{
	for (int tries = 0; tries < 6000 && access(path, F_OK); tries++)
		usleep(10000);
	return access(path, F_OK);
}

/*
 * user_workload NOTES TOLD ROUNDS [exec]: one round, then, once the file TOLD is there, so many more. With exec, remove
 * the file and begin anew, as another program of the same process.
 */
int main(int argc, char **argv)
{
	int rounds = argc > 3 ? atoi(argv[3]) : 1;

	notes = fopen(argv[1], "a");
	zeroes = open("/dev/zero", O_RDONLY);
	if (!notes || zeroes < 0)
		return 1;
	signal(SIGUSR1, handler);
	one_round();
	if (await(argv[2]))
		return 1;
	while (rounds-- > 0)
		one_round();
	if (argc > 4) {
		unlink(argv[2]);
		execv("/proc/self/exe", (char *[]){ argv[0], argv[1], argv[2], argv[3], NULL });
	}
	return 0;
}
