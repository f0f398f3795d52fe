// A signal's handler on a stack of its own, which raises another signal, whose handler aborts on the same stack.
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NOT_INLINE __attribute__((noinline, noclone))

static char stack[65536];
static volatile int depth;
static int *volatile nowhere;

NOT_INLINE static void deeper(int left)
{
	int here = left * 3;

	if (left == 0)
		abort();
	deeper(left - 1);
	depth += here;
}

static void second(int number)
{
	int seen = number + 100;

	deeper(2);
	depth += seen;
}

static void first(int number, siginfo_t *information, void *context)
{
	int seen = number + 200;

	(void)information;
	(void)context;
	raise(SIGUSR1);
	depth += seen;
}

// Takes no stack where calls do not: the signal comes at its first instructions.
NOT_INLINE static int leaf(int *place, int value)
{
	return *place + value;
}

NOT_INLINE static int middle(int value)
{
	int result = leaf(nowhere, value + 1);

	return result + value;
}

int main(void)
{
	stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
	struct sigaction action = {.sa_sigaction = first, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	sigaltstack(&other, NULL);
	sigaction(SIGSEGV, &action, NULL);
	action.sa_flags = 0;
	action.sa_handler = second;
	sigaction(SIGUSR1, &action, NULL);
	return middle(41);
}
