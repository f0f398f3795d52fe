/* C arguments of every sort, some in registers, some on the stack, some by value in memory. Each function keeps its
 * arguments alive over a call, and `stop_here` is where to look at the caller's. */

#include <stdbool.h>
#include <stdint.h>
#include <wchar.h>

enum colour { COLOUR_RED, COLOUR_GREEN = 5, COLOUR_BLUE };
enum flags { FLAG_READ = 1, FLAG_WRITE = 2, FLAG_EXECUTE = 4 };

struct point {
	int x, y;
};

struct packed_bits {
	unsigned int low : 3;
	signed int middle : 5;
	unsigned int high : 24;
	bool set : 1;
};

struct person {
	const char *name;
	int age;
	enum colour favourite;
	struct point home;
	double height;
	char initials[4];
};

struct node {
	int value;
	struct node *next;
};

union word {
	uint32_t whole;
	uint8_t bytes[4];
};

typedef struct point place_t;
typedef int (*operation)(int);

#define NOINLINE __attribute__((noinline))
#define USE(variable) __asm__ volatile("" : : "g"(variable) : "memory")

volatile int stops;

NOINLINE void stop_here(int which)
{
	stops += which;
	__asm__ volatile("" ::: "memory");
}

NOINLINE void take_integers(signed char a, unsigned char b, short c, unsigned short d, int e, unsigned int f, long g,
			    unsigned long h)
{
	stop_here(1);
	USE(a); USE(b); USE(c); USE(d); USE(e); USE(f); USE(g); USE(h);
}

NOINLINE void take_fixed_width(int8_t a, uint8_t b, int16_t c, uint32_t d, int64_t e, uint64_t f)
{
	stop_here(2);
	USE(a); USE(b); USE(c); USE(d); USE(e); USE(f);
}

NOINLINE void take_characters(char letter, char newline, unsigned char octet, wchar_t wide, bool yes, bool no)
{
	stop_here(3);
	USE(letter); USE(newline); USE(octet); USE(wide); USE(yes); USE(no);
}

NOINLINE void take_enumerations(enum colour known, enum colour unknown, enum flags combined)
{
	stop_here(4);
	USE(known); USE(unknown); USE(combined);
}

NOINLINE void take_floats(float single, double twice, double negative, long double extended)
{
	stop_here(5);
	USE(single); USE(twice); USE(negative);
	__asm__ volatile("" : : "m"(extended));
}

NOINLINE void take_strings(const char *text, char *empty, const char *null, const char *unreadable, const char *escaped)
{
	stop_here(6);
	USE(text); USE(empty); USE(null); USE(unreadable); USE(escaped);
}

NOINLINE void take_pointers(int *number, void *anything, operation function, struct node *list, char **words)
{
	stop_here(7);
	USE(number); USE(anything); USE(function); USE(list); USE(words);
}

NOINLINE void take_structures(struct point small, place_t named, struct person large, union word mixed)
{
	stop_here(8);
	__asm__ volatile("" : : "m"(small), "m"(named), "m"(large), "m"(mixed));
}

NOINLINE void take_bit_fields(struct packed_bits bits, struct packed_bits *by_pointer)
{
	stop_here(9);
	__asm__ volatile("" : : "m"(bits));
	USE(by_pointer);
}

NOINLINE void take_arrays(int numbers[3], const char letters[], int count)
{
	stop_here(10);
	USE(numbers); USE(letters); USE(count);
}

/* `gone` is dead at the call: optimizers keep no copy of it. */
NOINLINE int take_dead(int gone, int kept)
{
	stop_here(gone);
	USE(kept);
	return kept;
}

static inline __attribute__((always_inline)) void inlined_with_arguments(int constant, int variable, const char *label)
{
	stop_here(variable);
	USE(constant); USE(variable); USE(label);
}

NOINLINE void take_inlined(int value)
{
	inlined_with_arguments(77, value + 1, "a label");
	USE(value);
}

NOINLINE void take_static_local(int value)
{
	static int calls;

	calls += value;
	stop_here(calls);
	USE(value);
}

static int doubled(int value)
{
	return 2 * value;
}

int main(void)
{
	static int number = 12;
	static struct node last = { 2, 0 }, first = { 1, &last };
	static char *words[] = { "one", "two", 0 };
	static char empty[1];
	static int numbers[3] = { 7, 8, 9 };
	struct person ada = { "Ada", 36, COLOUR_GREEN, { 51, -1 }, 1.65, "AL" };
	struct packed_bits bits = { 5, -9, 0xabcdef, true };

	take_integers(-1, 200, -300, 60000, -70000, 4000000000u, -5000000000L, 0xfedcba9876543210ul);
	take_fixed_width(-8, 8, -1600, 3200000000u, INT64_MIN, UINT64_MAX);
	take_characters('x', '\n', 200, L'\u00e9', true, false);
	take_enumerations(COLOUR_BLUE, (enum colour)42, (enum flags)(FLAG_READ | FLAG_EXECUTE));
	take_floats(1.5f, 0.1, -2e300, 3.25L);
	take_strings("plain text", empty, 0, (const char *)16, "tab\tquote\"\\ caf\xc3\xa9 \x01");
	take_pointers(&number, &first, doubled, &first, words);
	take_structures((struct point){ 3, -4 }, (place_t){ 5, 6 }, ada, (union word){ 0x01020304 });
	take_bit_fields(bits, &bits);
	take_arrays(numbers, "letters", 3);
	take_dead(11, 22);
	take_inlined(30);
	take_static_local(1);
	return stops == 0;
}
