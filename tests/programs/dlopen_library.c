/* Loads the library in argv[1] (or beside the program) after the start; the library calls back. */

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

typedef int callback(int value);

__attribute__((noinline)) int called_back(int value)
{
	__asm__ volatile("" : "+r"(value));
	return value + 1;
}

int main(int argc, char **argv)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s.so", argv[0]);
	/* Twice: the second time it may lie elsewhere, or at the same place. */
	for (int round = 0; round < 2; round++) {
		void *library = dlopen(argc > 1 ? argv[1] : path, RTLD_NOW);
		if (library == NULL) {
			fprintf(stderr, "%s\n", dlerror());
			return 1;
		}
		int (*enter)(callback *, int) = (int (*)(callback *, int))dlsym(library, "plugin_enter");
		if (enter == NULL || enter(called_back, 40) != 42)
			return 2;
		dlclose(library);
	}
	return 0;
}
