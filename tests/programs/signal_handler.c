/* A signal handler on the ordinary stack, above a frame that was interrupted in its middle. */

#include <signal.h>
#include <stdlib.h>

volatile int handled;

__attribute__((noinline)) void inspect_signal(int number)
{
	handled += number;
}

static void on_signal(int number)
{
	inspect_signal(number);
	handled++;
}

/* The kernel interrupts this at its very first instruction when it follows a call: pc - 1 would be another function. */
__attribute__((noinline)) void faulting_store(int *where)
{
	*(volatile int *)where = 1;
}

static void on_fault(int number)
{
	inspect_signal(number);
	exit(handled == 0);
}

__attribute__((noinline)) int interrupted_work(int units)
{
	raise(SIGUSR1);
	return units + handled;
}

int main(void)
{
	signal(SIGUSR1, on_signal);
	signal(SIGSEGV, on_fault);
	if (interrupted_work(3) == 0)
		return 1;
	faulting_store(NULL);
	return 2;
}
