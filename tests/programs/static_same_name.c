/* Three files, each with a static function `refresh` of its own (and one `state`): three places, three lines. */

int refresh_first(int value);
int refresh_second(int value);

static int state;
volatile int one = 1; /* keeps constants from being propagated into copies under other names */

__attribute__((noinline)) static int refresh(int value)
{
	__asm__ volatile("" : "+r"(value));
	state += value;
	return state;
}

int main(void)
{
	int result = refresh(one);

	result += refresh_first(10 * one);
	result += refresh_second(100 * one);
	return result != 111;
}
