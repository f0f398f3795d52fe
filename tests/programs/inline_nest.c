/* Three functions inlined into each other, twice, around a call and around none. */

#define ALWAYS_INLINE static inline __attribute__((always_inline))

volatile int observed;

__attribute__((noinline)) int called_from_nest(int value)
{
	__asm__ volatile("" : "+r"(value));
	return value + 1;
}

ALWAYS_INLINE int innermost_inline(int small)
{
	observed = small;
	int result = called_from_nest(small + 1);
	observed = result;
	return result;
}

ALWAYS_INLINE int middle_inline(int medium)
{
	return innermost_inline(medium + 10) + 1;
}

ALWAYS_INLINE int outer_inline(int large)
{
	observed = large;
	int result = middle_inline(large + 100);
	observed = result;
	return result;
}

__attribute__((noinline)) int first_owner(int value)
{
	return outer_inline(value) + 1;
}

__attribute__((noinline)) int second_owner(int value)
{
	int result = outer_inline(value + 1000);
	__asm__ volatile("" : "+r"(result));
	return result + middle_inline(value);
}

int main(void)
{
	return (first_owner(1) == 0) | (second_owner(2) == 0);
}
