/* The program that exec_other becomes: frames of another size at the addresses of the old program's functions. */

#include <string.h>

__attribute__((noinline)) int after_exec(char *text, int value)
{
	__asm__ volatile("" : "+r"(value) : "r"(text) : "memory");
	return value + 1;
}

__attribute__((noinline)) int new_inner(int value)
{
	char text[200];

	memset(text, value, sizeof(text));
	int result = after_exec(text, value);
	return result + text[0];
}

__attribute__((noinline)) int new_outer(int value)
{
	char text[72];

	memset(text, value, sizeof(text));
	return new_inner(value) + text[1];
}

int main(void)
{
	return new_outer(1) != 4;
}
