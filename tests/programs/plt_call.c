/* Calls library functions through lazily bound PLT entries: the first call of each goes through the resolver. */

#include <stdlib.h>
#include <string.h>

__attribute__((noinline)) static size_t measure_word(const char *word)
{
	return strnlen(word, 64) + 1;
}

__attribute__((noinline)) static long read_number(const char *digits)
{
	return labs(atol(digits)) + 1;
}

int main(int argc, char **argv)
{
	(void)argc;
	/* Twice: lazily, then bound. */
	for (int round = 0; round < 2; round++)
		if (measure_word(argv[0]) == 0 || read_number("-41") != 42)
			return 1;
	return 0;
}
