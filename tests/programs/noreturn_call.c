/* Functions that end in a call which does not return: the return address is the first byte after the function, in the
 * next function or in no function at all. Only pc - 1 belongs to the caller.
 */

#include <stdlib.h>

__attribute__((noinline, noreturn)) void leave(int status)
{
	exit(status);
}

/* The frames' sizes differ, so that a lookup of the wrong row gives a wrong caller. */
__attribute__((noinline, noreturn)) void ends_in_call(volatile char *text, int status)
{
	volatile char copy[120];

	copy[0] = text[0];
	leave(status + copy[0]);
}

__attribute__((noinline)) int comes_next(int value)
{
	__asm__ volatile("" : "+r"(value));
	return value + 1;
}

__attribute__((noinline)) int calls_noreturn(int value)
{
	volatile char text[24];

	text[0] = (char)(comes_next(value) - 2);
	ends_in_call(text, value - 1);
}

int main(void)
{
	return calls_noreturn(1);
}
