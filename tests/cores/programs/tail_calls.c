// Functions that jump to others instead of calling them: what they were entered with is known by the call sites on the
// way, where there is one way only.
#include <stdio.h>
#include <stdlib.h>

static volatile int sink;

#define NOT_INLINE __attribute__((noinline, noclone, noipa))

NOT_INLINE void stop(const char *text)
{
	sink = *text;
	abort();
}

// Every argument register is overwritten before the call, and the values are wanted nowhere later.
NOT_INLINE int last(long one, long two, long three)
{
	sink = one + two + three;
	stop("the end");
	return sink + 1;
}

NOT_INLINE int middle(long one, long two)
{
	sink = two;
	return last(two, one, 33);
}

NOT_INLINE int only_way(long one)
{
	sink = one;
	return middle(one, 22);
}

NOT_INLINE int left(long one)
{
	sink = 1;
	return last(one, 5, 6);
}

NOT_INLINE int right(long one)
{
	sink = 2;
	return last(one, 7, 8);
}

NOT_INLINE int either_way(long one)
{
	sink = one;
	if (one & 1)
		return left(one);
	return right(one);
}

NOT_INLINE int directly(long one)
{
	return last(one, 44, 55) * 3;
}

int main(int argc, char **argv)
{
	(void)argv;
	switch (argc) {
	case 1:
		return only_way(11) * 2;
	case 2:
		return either_way(13) * 2;
	default:
		return directly(12) * 2;
	}
}
