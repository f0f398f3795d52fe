/* `tail_middle` jumps to `tail_leaf`: its frame is gone, and no unwinder can or should give it. */

__attribute__((noinline)) int tail_leaf(int value)
{
	__asm__ volatile("" : "+r"(value));
	return value + 1;
}

__attribute__((noinline)) int tail_middle(int value)
{
	__asm__ volatile("" : "+r"(value));
	return tail_leaf(value * 2);
}

__attribute__((noinline)) int tail_caller(int value)
{
	int result = tail_middle(value);

	__asm__ volatile("" : "+r"(result));
	return result;
}

int main(void)
{
	return tail_caller(20) != 41;
}
