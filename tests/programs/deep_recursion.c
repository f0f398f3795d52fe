/* Recursion to the depth in argv[1] (1,500 by default), then one call of `at_the_bottom`. */

#include <stdlib.h>

__attribute__((noinline)) int at_the_bottom(int depth)
{
	__asm__ volatile("" : "+r"(depth));
	return depth;
}

__attribute__((noinline)) int descend(int depth, int wanted)
{
	int below = depth == wanted ? at_the_bottom(depth) : descend(depth + 1, wanted);

	__asm__ volatile("" : "+r"(below)); /* not a tail call */
	return below + 1;
}

int main(int argc, char **argv)
{
	int wanted = argc > 1 ? atoi(argv[1]) : 1500;

	return descend(1, wanted) != 2 * wanted;
}
