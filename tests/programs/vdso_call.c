/* Calls the vdso directly, at the address that the auxiliary vector gives, so that a breakpoint can stop in it.
 * `vdso_entry` holds the address of __vdso_clock_gettime when `ready_for_vdso` is called; 0 where there is no vdso.
 */

#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

typedef int clock_function(clockid_t clock, struct timespec *now);

clock_function *vdso_entry;

static clock_function *find_in_vdso(const char *wanted)
{
	const char *base = (const char *)getauxval(AT_SYSINFO_EHDR);
	const char *names = NULL;
	const ElfW(Sym) *symbols = NULL;
	const ElfW(Word) *hash = NULL;

	if (base == NULL)
		return NULL;
	const ElfW(Ehdr) *header = (const void *)base;
	const ElfW(Phdr) *segments = (const void *)(base + header->e_phoff);
	for (int i = 0; i < header->e_phnum; i++) {
		if (segments[i].p_type != PT_DYNAMIC)
			continue;
		for (const ElfW(Dyn) *entry = (const void *)(base + segments[i].p_offset); entry->d_tag; entry++) {
			if (entry->d_tag == DT_STRTAB)
				names = base + entry->d_un.d_ptr;
			else if (entry->d_tag == DT_SYMTAB)
				symbols = (const void *)(base + entry->d_un.d_ptr);
			else if (entry->d_tag == DT_HASH || entry->d_tag == DT_GNU_HASH)
				hash = (const void *)(base + entry->d_un.d_ptr);
		}
	}
	if (names == NULL || symbols == NULL || hash == NULL)
		return NULL;
	/* The symbol table ends where the string table begins, or close to it: every entry before that is a symbol. */
	for (const ElfW(Sym) *symbol = symbols; (const char *)(symbol + 1) <= names; symbol++)
		if (symbol->st_name && strcmp(names + symbol->st_name, wanted) == 0)
			return (clock_function *)(base + symbol->st_value);
	return NULL;
}

__attribute__((noinline)) void ready_for_vdso(void)
{
	__asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) long read_clock(clockid_t clock)
{
	struct timespec now = { 0 };

	if (vdso_entry && vdso_entry(clock, &now) != 0)
		return -1;
	return now.tv_sec;
}

int main(int argc, char **argv)
{
	long sum = 0, rounds = argc > 1 ? atol(argv[1]) : 3;

	vdso_entry = find_in_vdso("__vdso_clock_gettime");
	ready_for_vdso();
	for (long round = 0; round < rounds; round++)
		sum += read_clock(CLOCK_MONOTONIC);
	return sum < 0;
}
