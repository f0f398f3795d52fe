/* A library that is opened late. */

#include <stdlib.h>
#include <unistd.h>

char library_read(int descriptor);

char library_read(int descriptor)
{
	char byte = 1;

	if (read(descriptor, &byte, 1) != 1)
		abort();
	return byte;
}
