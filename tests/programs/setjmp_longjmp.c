/* Leaves three frames at once by longjmp; the stack that the next call builds overwrites what they left. */

#include <setjmp.h>

static jmp_buf back;

__attribute__((noinline)) int after_jump(int value)
{
	__asm__ volatile("" : "+r"(value));
	return value;
}

__attribute__((noinline)) int jump_out(int value)
{
	if (value)
		longjmp(back, value);
	return 0;
}

__attribute__((noinline)) int dive(int depth)
{
	int result = depth ? dive(depth - 1) : jump_out(7);

	__asm__ volatile("" : "+r"(result));
	return result;
}

__attribute__((noinline)) int guarded(void)
{
	int value = setjmp(back);

	if (value == 0)
		return dive(3);
	return after_jump(value);
}

int main(void)
{
	int result = guarded();

	return result != 7;
}
