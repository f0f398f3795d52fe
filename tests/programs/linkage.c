/* Built four ways: static, static_pie, no_pie and pie. */

#include <stdio.h>

__attribute__((noinline)) int leaf_of_linkage(int value)
{
	__asm__ volatile("" : "+r"(value));
	return value + 1;
}

__attribute__((noinline)) int middle_of_linkage(int value)
{
	int result = leaf_of_linkage(value + 1);

	__asm__ volatile("" : "+r"(result));
	return result * 2;
}

int main(void)
{
	int result = middle_of_linkage(19);

	__asm__ volatile("" : "+r"(result)); /* keep main's frame an ordinary one */
	return result != 42;
}
