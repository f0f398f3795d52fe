/* The first other file with a static `refresh`. */

static int state;

int refresh_first(int value);

__attribute__((noinline)) static int refresh(int value)
{
	__asm__ volatile("" : "+r"(value));
	state += value;
	return state;
}

int refresh_first(int value)
{
	int result = refresh(value);

	__asm__ volatile("" : "+r"(result));
	return result;
}
