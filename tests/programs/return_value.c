/* One function for each way the System V ABI AMD64 returns a value (§3.2.3). */

#include <stdbool.h>

enum mood { MOOD_CALM = 3, MOOD_MERRY = 7 };

struct two_words {
	long first, second;
};

struct mixed_pair {
	double weight;
	int count;
};

struct small_struct {
	short width, height;
};

struct large_struct {
	long values[5];
};

union number {
	long whole;
	double real;
};

#define NOINLINE __attribute__((noinline))
#define KEEP(variable) __asm__ volatile("" : "+r"(variable))

NOINLINE void return_void(int value) { KEEP(value); }
NOINLINE bool return_bool(int value) { KEEP(value); return value > 1; }
NOINLINE char return_char(int value) { KEEP(value); return (char)('A' + value); }
NOINLINE signed char return_signed_char(int value) { KEEP(value); return (signed char)-value; }
NOINLINE unsigned short return_unsigned_short(int value) { KEEP(value); return (unsigned short)(60000 + value); }
NOINLINE int return_int(int value) { KEEP(value); return -value; }
NOINLINE unsigned int return_unsigned(int value) { KEEP(value); return 4000000000u + (unsigned int)value; }
NOINLINE long return_long(long value) { KEEP(value); return -5000000000L - value; }
NOINLINE __int128 return_int128(long value) { KEEP(value); return (__int128)value << 64 | 1; }
NOINLINE float return_float(int value) { KEEP(value); return (float)value + 0.5f; }
NOINLINE double return_double(int value) { KEEP(value); return value * 0.25; }
NOINLINE long double return_long_double(int value) { KEEP(value); return value * 0.125L; }
NOINLINE enum mood return_enum(int value) { KEEP(value); return value == 2 ? MOOD_MERRY : MOOD_CALM; }
NOINLINE char *return_string(char *text) { KEEP(text); return text + 4; }
NOINLINE const int *return_pointer(const int *place) { KEEP(place); return place + 1; }
NOINLINE const int *return_null(const int *place) { KEEP(place); return (void *)0; }

NOINLINE struct two_words return_two_words(long value)
{
	KEEP(value);
	return (struct two_words){ value, value + 1 };
}

NOINLINE struct mixed_pair return_mixed_pair(int value)
{
	KEEP(value);
	return (struct mixed_pair){ value + 0.5, value };
}

NOINLINE struct small_struct return_small_struct(int value)
{
	KEEP(value);
	return (struct small_struct){ (short)value, (short)-value };
}

NOINLINE struct large_struct return_large_struct(long value)
{
	KEEP(value);
	return (struct large_struct){ { value, value + 1, value + 2, value + 3, value + 4 } };
}

NOINLINE union number return_union(double value)
{
	return (union number){ .real = value * 2 };
}

volatile long sink;

int main(void)
{
	static char text[] = "the words";
	static const int numbers[] = { 10, 20 };

	return_void(1);
	sink = return_bool(2) + return_char(2) + return_signed_char(2) + return_unsigned_short(2) + return_int(2);
	sink += return_unsigned(2) + return_long(2) + (long)(return_int128(2) >> 64);
	sink += (long)(return_float(2) + return_double(2) + return_long_double(2)) + return_enum(2);
	sink += *return_string(text) + *return_pointer(numbers) + (return_null(numbers) == (void *)0);
	sink += return_two_words(2).second + return_mixed_pair(2).count + return_small_struct(2).height;
	sink += return_large_struct(2).values[4] + (return_union(1.5).real > 2);
	return sink == 0;
}
