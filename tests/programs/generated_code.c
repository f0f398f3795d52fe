/*
 * A program that makes code at run time and tells its names as a JIT does, in /tmp/perf-PID.map: main calls
 * generated_outer, which calls generated_inner, which calls probed. The two have frame pointers and no CFI.
 *
 * With arguments, of which an empty one is none: the first is the map's content instead, in which %lx stands for where the code begins; the second,
 * the user that the map is given to; the third, for how many seconds it stays on.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile int calls;

__attribute__((noinline)) void probed(int value)
{
	calls += value;
}

/* push %rbp; mov %rsp,%rbp; movabs $TARGET,%rax; call *%rax; pop %rbp; ret */
static size_t write_caller(unsigned char *at, uintptr_t target)
{
	static const unsigned char before[] = { 0x55, 0x48, 0x89, 0xe5, 0x48, 0xb8 };
	static const unsigned char after[] = { 0xff, 0xd0, 0x5d, 0xc3 };

	memcpy(at, before, sizeof(before));
	memcpy(at + sizeof(before), &target, sizeof(target));
	memcpy(at + sizeof(before) + sizeof(target), after, sizeof(after));
	return sizeof(before) + sizeof(target) + sizeof(after);
}

static void write_map(const char *format, uintptr_t code, size_t size, const char *owner)
{
	char path[64];
	FILE *map;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	map = fopen(path, "w");
	if (!map)
		exit(1);
	if (format) {
		fprintf(map, format, (unsigned long)code);
	} else {
		/* What was there before was thrown away: the last entry of a place counts. */
		fprintf(map, "%lx 100 thrown_away\n", (unsigned long)code);
		fprintf(map, "%lx %zx generated_inner\n", (unsigned long)code, size);
		fprintf(map, "%lx %zx generated outer:~loop /a b.js:3\n", (unsigned long)code + 32, size);
	}
	fclose(map);
	if (owner && chown(path, (uid_t)atoi(owner), (gid_t)-1))
		exit(1);
}

int main(int argc, char **argv)
{
	unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t size;

	if (code == MAP_FAILED)
		return 1;
	size = write_caller(code, (uintptr_t)probed);
	write_caller(code + 32, (uintptr_t)code);
	write_map(argc > 1 && argv[1][0] ? argv[1] : NULL, (uintptr_t)code, size, argc > 2 && argv[2][0] ? argv[2] : NULL);
	((void (*)(int))(code + 32))(1);
	printf("%d\n", calls);
	if (argc > 3)
		sleep((unsigned int)atoi(argv[3]));
	return 0;
}
