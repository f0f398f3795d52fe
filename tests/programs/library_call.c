/* The main program of no_debug_info, stripped and debug_frame_only: a call chain of functions with symbols that are
 * exported or not, where a library function (qsort) calls back.
 */

#include <stdlib.h>

int compare_numbers(const void *left, const void *right);
int sort_numbers(int *numbers, size_t count);

__attribute__((noinline)) int compare_numbers(const void *left, const void *right)
{
	return *(const int *)left - *(const int *)right;
}

__attribute__((noinline)) int sort_numbers(int *numbers, size_t count)
{
	qsort(numbers, count, sizeof(*numbers), compare_numbers);
	return numbers[0];
}

__attribute__((noinline)) static int hidden_middle(int *numbers)
{
	int smallest = sort_numbers(numbers, 4);

	__asm__ volatile("" : "+r"(smallest));
	return smallest;
}

int main(void)
{
	int numbers[] = { 30, 10, 40, 20 };
	int smallest = hidden_middle(numbers);

	__asm__ volatile("" : "+r"(smallest));
	return smallest != 10;
}
