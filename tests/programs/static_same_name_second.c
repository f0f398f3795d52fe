/* The second other file with a static `refresh`, of another type. */

static long state;
extern volatile int one;

int refresh_second(int value);

__attribute__((noinline)) static long refresh(long first, long second)
{
	__asm__ volatile("" : "+r"(first));
	state += first + second;
	return state;
}

int refresh_second(int value)
{
	long result = refresh(value - 1, one);

	__asm__ volatile("" : "+r"(result));
	return (int)result;
}
