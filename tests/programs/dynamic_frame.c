/* Frames whose size is only known at run time: alloca, a variable length array, and a realigned stack (built with AVX:
 * the CFA is found through a saved copy of the incoming stack pointer, a DWARF expression).
 */

#include <alloca.h>
#include <string.h>

typedef float wide_vector __attribute__((vector_size(32)));

__attribute__((noinline)) int look_at(const void *memory, int value)
{
	__asm__ volatile("" : "+r"(value) : "r"(memory) : "memory");
	return value;
}

__attribute__((noinline)) int with_alloca(int size)
{
	char *memory = alloca((size_t)size);

	memset(memory, 1, (size_t)size);
	return look_at(memory, size) + memory[0];
}

__attribute__((noinline)) int with_variable_length_array(int size)
{
	int values[size];

	for (int i = 0; i < size; i++)
		values[i] = i;
	return look_at(values, size) + values[size - 1];
}

__attribute__((noinline)) int with_realigned_stack(int size)
{
	_Alignas(64) wide_vector vectors[4];

	memset(vectors, size, sizeof(vectors));
	return look_at(vectors, size) + (((unsigned long)vectors & 63) != 0);
}

__attribute__((noinline)) int with_realigned_dynamic_stack(int size)
{
	_Alignas(128) char aligned[128];
	char *memory = alloca((size_t)size);

	memset(aligned, 2, sizeof(aligned));
	memset(memory, 3, (size_t)size);
	return look_at(memory, size) + look_at(aligned, 1) - 1;
}

int main(void)
{
	for (int size = 33; size < 200; size += 83)
		if (with_alloca(size) != size + 1 || with_variable_length_array(size) != 2 * size - 1 ||
		    with_realigned_stack(size) != size || with_realigned_dynamic_stack(size) != size)
			return 1;
	return 0;
}
