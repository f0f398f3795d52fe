/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A 32-bit program without a library and without frame pointers, whose reads of /dev/zero lie at the end of some calls:
 * one round after the other until the file that is named is there, and then two more.
 */

#define ACCESS 33
#define EXIT 1
#define NANOSLEEP 162
#define OPEN 5
#define READ 3
#define APART __attribute__((noinline, noipa))

/* Numbers of arch/x86/entry/syscalls/syscall_32.tbl; int $0x80 takes them, and arguments in ebx, ecx and edx. */
static inline int call(int number, long first, long second, long third)
{
	int result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second), "d"(third) : "memory");
	return result;
}

static int zeroes;

APART int read_one(void)
{
	char buffer[8];

	return call(READ, zeroes, (long)buffer, sizeof(buffer));
}

APART int wide(int levels)
{
	volatile char room[1000];

	room[levels] = 1;
	return read_one() + room[levels];
}

APART int narrow(int levels)
{
	return levels ? narrow(levels - 1) + 1 : wide(3);
}

APART int one_round(void)
{
	return narrow(4) + 2;
}

/* `stack` is as the kernel has left it: the count of arguments, and where they are. */
__attribute__((used, noipa, noreturn)) void begin(const long *stack)
{
	const long pause[2] = { 0, 10000000 };
	int tries, left;

	zeroes = call(OPEN, (long)"/dev/zero", 0, 0);
	for (tries = 0; tries < 6000 && call(ACCESS, stack[2], 0, 0); tries++) {
		one_round();
		call(NANOSLEEP, (long)pause, 0, 0);
	}
	for (left = 2; left; left--)
		one_round();
	call(EXIT, tries < 6000 ? 0 : 1, 0, 0);
	__builtin_unreachable();
}

__asm__(".globl _start\n"
	".type _start, @function\n"
	"_start:\n"
	"	.cfi_startproc\n"
	"	.cfi_undefined eip\n"
	"	movl %esp, %eax\n"
	"	andl $-16, %esp\n"
	"	subl $12, %esp\n"
	"	pushl %eax\n"
	"	call begin\n"
	"	hlt\n"
	"	.cfi_endproc\n"
	"	.size _start, .-_start\n");
