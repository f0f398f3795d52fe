/* The library that dlopen_library loads. */

typedef int callback(int value);

__attribute__((noinline)) static int plugin_inner(callback *back, int value)
{
	return back(value) + 1;
}

int plugin_enter(callback *back, int value)
{
	int result = plugin_inner(back, value);

	__asm__ volatile("" : "+r"(result));
	return result;
}
