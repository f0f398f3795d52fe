// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Single-steps a program from its first instruction, and writes each state and the call stack that it truly has.
 *
 *   stepper [-e] [-s LOW,HIGH] PROGRAM [ARGUMENT...] >RECORDS
 *
 * -e: let the dynamic linker run at full speed, and begin at the program's entry point.
 * -s: code from LOW to HIGH, in bytes from the entry point, switches stacks.
 * The program must have one thread; its output is thrown away.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "call_stack.h"
#include "instruction.h"
#include "record_stream.h"

enum { REGIONS_MAXIMUM = 8, STACK_BYTES = 1 << 20, ABOVE_STACK = 64, MAPS_BYTES = 1 << 16, KINDS = 1 << 18 };
enum { SWITCH_DISTANCE = 2048 };

/* Memory that is watched: the main stack first, then the program's own writable data. */
struct region {
	uint64_t address;
	uint64_t first; /* word of the image */
	uint64_t words;
};

static pid_t child;
static struct region regions[REGIONS_MAXIMUM];
static int region_count;
static uint64_t *image, *fresh; /* the words of all regions: as last told, as just read */
static uint64_t image_words;
static uint64_t switch_low, switch_high;
static char maps[MAPS_BYTES];

static void read_registers(uint64_t *to)
{
	struct user_regs_struct r;

	if (ptrace(PTRACE_GETREGS, child, NULL, &r) != 0)
		give_up("PTRACE_GETREGS");
	uint64_t all[REGISTERS] = { r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9,
				    r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rip };

	memcpy(to, all, sizeof(all));
}

static size_t read_memory(uint64_t address, void *to, size_t size)
{
	struct iovec local = { to, size }, remote = { (void *)address, size };
	ssize_t got = process_vm_readv(child, &local, 1, &remote, 1, 0);

	return got < 0 ? 0 : (size_t)got;
}

/* The kind of the instruction at `pc`, remembered, since reading memory is slow. */
static enum instruction kind_at(uint64_t pc)
{
	static struct { uint64_t pc; enum instruction kind; } known[KINDS];
	uint8_t code[INSTRUCTION_BYTES + 1] = { 0 };
	size_t slot = pc % KINDS;

	if (known[slot].pc != pc) {
		/* The last page of a mapping may end right behind a short instruction. */
		for (size_t size = sizeof(code); size && !read_memory(pc, code, size); size--)
			;
		known[slot].pc = pc;
		known[slot].kind = instruction_kind(code);
	}
	return known[slot].kind;
}

/* Keep the executable lines of /proc/PID/maps; true when they have changed. */
static int read_maps(void)
{
	static char text[MAPS_BYTES];
	char path[64], line[4096];
	size_t used = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", child);
	FILE *file = fopen(path, "r");

	if (!file)
		give_up(path);
	while (fgets(line, sizeof(line), file)) {
		const char *permissions = strchr(line, ' ');

		if (!permissions || permissions[3] != 'x')
			continue;
		if (used + strlen(line) >= sizeof(text))
			give_up("too many mappings");
		strcpy(text + used, line);
		used += strlen(line);
	}
	fclose(file);
	memset(text + used, 0, sizeof(text) - used);
	if (strcmp(text, maps) == 0)
		return 0;
	memcpy(maps, text, sizeof(maps));
	return 1;
}

static void write_maps(void)
{
	if (!read_maps())
		return;
	stream_steps();
	size_t size = (strlen(maps) + 7) & ~(size_t)7;

	stream_block(BLOCK_MAPS, (int64_t)size, 0, 0);
	stream_bytes(maps, size);
}

static void add_region(uint64_t address, uint64_t end)
{
	if (region_count == REGIONS_MAXIMUM)
		give_up("too many regions");
	regions[region_count++] = (struct region){ address, image_words, (end - address) / 8 };
	image_words += (end - address) / 8;
}

/* Watch the stack, and the writable mappings of the program's file with the zeroed memory behind them. */
static void choose_regions(const char *program, uint64_t rsp)
{
	char path[64], line[4096], real[4096];
	uint64_t low, high, previous = 0;

	if (!realpath(program, real))
		give_up(program);
	add_region((rsp & ~7ull) + ABOVE_STACK - STACK_BYTES, (rsp & ~7ull) + ABOVE_STACK);
	snprintf(path, sizeof(path), "/proc/%d/maps", child);
	FILE *file = fopen(path, "r");

	if (!file)
		give_up(path);
	while (fgets(line, sizeof(line), file)) {
		char permissions[8], name[4096] = "";

		if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %4095s", &low, &high, permissions, name) < 3)
			give_up("cannot read the mappings");
		if (permissions[1] == 'w' && (strcmp(name, real) == 0 || (!name[0] && low == previous))) {
			add_region(low, high);
			previous = high;
		}
	}
	fclose(file);
	image = calloc(image_words, 8);
	fresh = calloc(image_words, 8);
	if (!image || !fresh)
		give_up("no memory");
	stream_block(BLOCK_START, child, region_count, (int64_t)image_words);
	stream_bytes(regions, (size_t)region_count * sizeof(*regions));
}

/* The word at `address` as it was just read. */
static uint64_t fresh_word(uint64_t address)
{
	for (int i = 0; i < region_count; i++)
		if (address - regions[i].address < regions[i].words * 8 && address % 8 == 0)
			return fresh[regions[i].first + (address - regions[i].address) / 8];
	give_up("a stack lies in memory that is not watched");
}

static int in_main_stack(uint64_t address)
{
	return address - regions[0].address < regions[0].words * 8;
}

/* Tell the words in [first, last) that differ; true when one is a return address in use that was replaced. */
static int tell_changes(const struct region *region, uint64_t first, uint64_t last)
{
	int rewrote = 0;
	const uint64_t block = 32;

	for (uint64_t at = first; at < last; at += block) {
		uint64_t end = at + block < last ? at + block : last;

		if (memcmp(image + at, fresh + at, (end - at) * 8) == 0)
			continue;
		for (uint64_t word = at; word < end; word++) {
			if (image[word] == fresh[word])
				continue;
			image[word] = fresh[word];
			stream_delta(word, fresh[word]);
			rewrote |= call_stack_store(region->address + (word - region->first) * 8, fresh[word]);
		}
	}
	return rewrote;
}

/* Read all watched memory from `low` on, before its changes are told. */
static void read_image(uint64_t low)
{
	struct iovec local[REGIONS_MAXIMUM], remote[REGIONS_MAXIMUM];
	size_t total = 0;

	for (int i = 0; i < region_count; i++) {
		uint64_t skip = i ? 0 : (low - regions[0].address) / 8;
		uint64_t size = (regions[i].words - skip) * 8;

		local[i] = (struct iovec){ fresh + regions[i].first + skip, size };
		remote[i] = (struct iovec){ (void *)(regions[i].address + skip * 8), size };
		total += size;
	}
	ssize_t got = process_vm_readv(child, local, (unsigned long)region_count, remote,
				       (unsigned long)region_count, 0);

	if (got < 0 || (size_t)got != total)
		give_up("cannot read the program's memory");
}

/* What the last instruction did to the call stack, beside the memory it changed. */
static uint64_t follow(enum instruction kind, const uint64_t *before, const uint64_t *after)
{
	uint64_t flags = 0;
	int64_t inner = call_stack_top();

	if (kind == FAR_TRANSFER)
		give_up("a far transfer, which is not followed");
	if (kind == SYSCALL && before[0] == SYS_rt_sigreturn) {
		if (!call_stack_signal_return())
			give_up("a signal return without a signal");
		return 0;
	}
	if (before[RIP] >= switch_low && before[RIP] < switch_high && kind == PLAIN &&
	    after[RSP] - before[RSP] + SWITCH_DISTANCE > 2 * SWITCH_DISTANCE)
		call_stack_switch(before[RSP]);
	/* The unwinder returns in two instructions: it pops the return address into a register, and jumps there. */
	if (kind == POP && inner >= 0 && call_stack_node(inner)->kind != NODE_INTERRUPTED &&
	    call_stack_node(inner)->cfa == after[RSP])
		return 0;
	call_stack_leave(after[RSP]);
	if (kind == RETURN && call_stack_top() != inner && call_stack_node(inner)->pc != after[RIP])
		flags |= STEP_RETURNED_ELSEWHERE;
	if (after[RIP] == before[RIP] && kind == PLAIN)
		flags |= STEP_REPEATED;
	return flags;
}

/* True when the call that `before` was about to make was made. */
static int was_called(enum instruction kind, const uint64_t *before, const uint64_t *after)
{
	if (kind != CALL || after[RSP] != before[RSP] - 8)
		return 0;
	if (fresh_word(after[RSP]) - before[RIP] - 1 >= INSTRUCTION_BYTES)
		give_up("a call that pushed no return address");
	return 1;
}

static int is_caught(int number)
{
	char path[64], line[256];
	unsigned long long caught = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", child);
	FILE *file = fopen(path, "r");

	if (!file)
		give_up(path);
	while (fgets(line, sizeof(line), file))
		sscanf(line, "SigCgt: %llx", &caught);
	fclose(file);
	return caught >> (number - 1) & 1;
}

/* Let the program go on for one instruction, or into a handler; 0 when it has ended, with `status`. */
static int resume(int request, int signal_number, int *status)
{
	if (ptrace(request, child, NULL, (void *)(long)signal_number) != 0)
		give_up("ptrace cannot resume");
	if (waitpid(child, status, 0) != child)
		give_up("waitpid");
	return WIFSTOPPED(*status);
}

/* A push of one of the registers that calls preserve. `number` is the machine's. */
static void note_push(int number, const uint64_t *before, uint64_t address)
{
	static const int dwarf[16] = { [3] = RBX, [5] = RBP, [12] = 12, [13] = 13, [14] = 14, [15] = 15 };

	if (dwarf[number])
		call_stack_saved(dwarf[number], before[dwarf[number]], address);
}

static void tell_state(const uint64_t *registers, uint64_t flags, enum instruction kind, const uint64_t *before)
{
	static uint64_t main_low;
	struct step step = { .flags = flags };
	uint64_t low = call_stack_low(registers[RSP]);

	if (in_main_stack(low))
		main_low = low;
	read_image(main_low);
	if (was_called(kind, before, registers))
		call_stack_push(before, fresh_word(registers[RSP]));
	if (kind >= PUSH && registers[RSP] == before[RSP] - 8)
		note_push(kind - PUSH, before, registers[RSP]);
	for (int i = 0; i < region_count; i++) {
		uint64_t skip = i ? 0 : (main_low - regions[0].address) / 8;

		if (tell_changes(&regions[i], regions[i].first + skip, regions[i].first + regions[i].words))
			step.flags |= STEP_REWROTE_RETURN;
	}
	memcpy(step.registers, registers, sizeof(step.registers));
	step.low = main_low;
	step.node = call_stack_top();
	stream_step(&step);
}

/* A handler begins at `registers`. */
static void enter_handler(const uint64_t *interrupted, const uint64_t *registers)
{
	uint64_t return_address;

	if (!read_memory(registers[RSP], &return_address, 8))
		give_up("cannot read the signal frame");
	call_stack_signal(interrupted, registers, return_address);
	tell_state(registers, 0, PLAIN, interrupted);
}

static int step_to_the_end(void)
{
	uint64_t before[REGISTERS], after[REGISTERS];
	int status, signal_number = 0;

	read_registers(before);
	tell_state(before, 0, PLAIN, before);
	for (;;) {
		enum instruction kind = kind_at(before[RIP]);
		uint64_t call_number = before[0];
		int caught = signal_number && is_caught(signal_number);

		if (!resume(PTRACE_SINGLESTEP, signal_number, &status))
			return status;
		read_registers(after);
		if (caught) {
			enter_handler(before, after);
			signal_number = 0;
		} else {
			signal_number = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
			/* A signal that keeps the instruction from running, or comes before the next one, changes nothing. */
			if (signal_number && memcmp(before, after, sizeof(before)) == 0)
				continue;
			tell_state(after, follow(kind, before, after), kind, before);
			if (kind == SYSCALL && (call_number == SYS_mmap || call_number == SYS_mprotect))
				write_maps();
		}
		memcpy(before, after, sizeof(before));
	}
}

static uint64_t entry_point(void)
{
	uint64_t pair[2];
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/auxv", child);
	FILE *file = fopen(path, "rb");

	if (!file)
		give_up(path);
	while (fread(pair, sizeof(pair), 1, file) == 1 && pair[0] != 9 /* AT_ENTRY */)
		;
	fclose(file);
	if (pair[0] != 9)
		give_up("the entry point is not told");
	return pair[1];
}

/* Run up to `address` at full speed. */
static void run_to(uint64_t address)
{
	struct user_regs_struct registers;
	int status;

	errno = 0;
	long word = ptrace(PTRACE_PEEKTEXT, child, (void *)address, NULL);

	if (errno || ptrace(PTRACE_POKETEXT, child, (void *)address, (word & ~0xffl) | 0xcc))
		give_up("cannot stop the program at its entry point");
	if (!resume(PTRACE_CONT, 0, &status) || WSTOPSIG(status) != SIGTRAP)
		give_up("the program did not come to its entry point");
	if (ptrace(PTRACE_POKETEXT, child, (void *)address, word) || ptrace(PTRACE_GETREGS, child, NULL, &registers))
		give_up("cannot go on from the entry point");
	registers.rip = address;
	if (ptrace(PTRACE_SETREGS, child, NULL, &registers))
		give_up("PTRACE_SETREGS");
}

static void start(char **command)
{
	int status;

	child = fork();
	if (child < 0)
		give_up("fork");
	if (child == 0) {
		int nowhere = open("/dev/null", O_RDWR);

		dup2(nowhere, STDIN_FILENO);
		dup2(nowhere, STDOUT_FILENO);
		personality(ADDR_NO_RANDOMIZE);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		execv(command[0], command);
		_exit(127);
	}
	if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
		give_up("the program does not start");
	if (ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)PTRACE_O_EXITKILL) != 0)
		give_up("PTRACE_SETOPTIONS");
}

int main(int argc, char **argv)
{
	int from_entry = 0, option, status;
	long long low = 0, high = 0;
	uint64_t registers[REGISTERS];

	while ((option = getopt(argc, argv, "+es:")) != -1) {
		if (option == 'e')
			from_entry = 1;
		else if (option != 's' || sscanf(optarg, "%lld,%lld", &low, &high) != 2)
			return 2;
	}
	if (optind == argc)
		return 2;
	start(argv + optind);
	switch_low = low ? entry_point() + (uint64_t)low : 0;
	switch_high = high ? entry_point() + (uint64_t)high : 0;
	if (from_entry)
		run_to(entry_point());
	stream_open(STDOUT_FILENO);
	read_registers(registers);
	choose_regions(argv[optind], registers[RSP]);
	write_maps();
	status = step_to_the_end();
	stream_steps();
	stream_block(BLOCK_END, status, 0, 0);
	stream_close();
	return 0;
}
