/* A signal handler on a stack of its own, at a lower or higher address than the interrupted one. */

#include <signal.h>
#include <stdlib.h>

static char low_stack[65536]; /* below the main stack */
volatile int handled;

__attribute__((noinline)) void inspect_signal(int number)
{
	handled += number;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	inspect_signal(number);
	handled++;
}

__attribute__((noinline)) int interrupted_work(int units)
{
	raise(SIGUSR1);
	return units + handled;
}

/* `high_stack` lies in the caller's frame, above everything that is interrupted: here the CFA falls. */
__attribute__((noinline)) static int with_stack(char *stack, size_t size)
{
	stack_t alternate = { .ss_sp = stack, .ss_size = size };
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	if (sigaltstack(&alternate, NULL) != 0 || sigaction(SIGUSR1, &action, NULL) != 0)
		return 0;
	int result = interrupted_work(2);
	stack_t disabled = { .ss_flags = SS_DISABLE };
	sigaltstack(&disabled, NULL);
	return result;
}

int main(void)
{
	char high_stack[65536];

	if (with_stack(low_stack, sizeof(low_stack)) == 0 || with_stack(high_stack, sizeof(high_stack)) == 0)
		return 1;
	return 0;
}
