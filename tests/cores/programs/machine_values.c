// Values that an architecture has its own way with: wide integers, floating-point numbers in memory and in registers,
// what is passed on the stack, structures by value.
#include <complex.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOT_INLINE __attribute__((noinline, noclone))

struct small {
	char tag;
	long long wide;
	double part;
};

struct bits {
	unsigned low : 3;
	signed middle : 11;
	unsigned long long high : 40;
};

enum colour { RED = 1, GREEN = 2, BLUE = 4 };

typedef int (*callback)(int);

static volatile long double sink;

static int twice(int value)
{
	return 2 * value;
}

// Compilers do not see that it never comes back, and keep what is wanted then.
static volatile int wanted = 1;

NOT_INLINE static void stop(void)
{
	if (wanted)
		__builtin_trap();
}

NOT_INLINE static long double reals(float one, double two, long double three, double complex four)
{
	long double sum = one + two + three + creal(four);

	sink = sum;
	stop();
	return sum * sink;
}

NOT_INLINE static long integers(char one, short two, int three, long four, long long five, unsigned long long six,
				size_t seven, struct small eight, const struct bits *nine, enum colour ten, callback eleven,
				const char *twelve)
{
	long long wide[2] = {five, (long long)six};
	uintptr_t self = (uintptr_t)wide;
	long double deep = reals(1.5f, -0.1, 3.25L, 1.0 - 2.0 * I);

	return (long)(wide[one & 1] + two + three + four + (long)seven + eight.tag + nine->low + ten + eleven(1) +
		      (self != 0) + (long)deep + twelve[0]);
}

NOT_INLINE static double in_register(double value, int count)
{
	double product = value;

	for (int index = 0; index < count; index++)
		product *= value + index;
	if (product > wanted)
#if defined(__i386__) && !defined(__SSE__)
		__asm__ volatile("nop; ud2; nop" : "+t"(product)); // in st(0)
#else
		__builtin_trap();
#endif
	return product;
}

int main(int argc, char **argv)
{
	struct small eight = {'x', -1234567890123LL, 0.1};
	struct bits nine = {5, -700, 0xabcdef0123ULL};

	(void)argv;
	if (argc > 1)
		return (int)in_register(1.1, 7);
	return (int)integers('a', -2, 3, -4, -5000000000LL, 18000000000000000000ULL, 7, eight, &nine, GREEN | BLUE, twice,
			     "twelve");
}
