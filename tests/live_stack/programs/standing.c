/* A program that stands at a known place, by its first argument; "ready" is written when all of it is about to. */

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 4
#define SIGNALS 2000
#define OTHER_STACK (64 * 1024)

struct order {
	int amount;
	const char *name;
};

volatile long counter;
static volatile sig_atomic_t handled;
static pthread_barrier_t all_there;

static void tell_ready(void)
{
	if (write(STDOUT_FILENO, "ready\n", 6) != 6)
		exit(3);
}

__attribute__((noinline)) void stand(int depth)
{
	pause();
	counter += depth;
}

__attribute__((noinline)) void descend(int depth, int left)
{
	volatile char frame[40] = { 0 };

	if (left == 0)
		stand(depth);
	else
		descend(depth, left - 1);
	counter += frame[0];
}

static void *thread_main(void *argument)
{
	pthread_barrier_wait(&all_there);
	descend((int)(long)argument, (int)(long)argument * 10);
	return NULL;
}

static void threads(void)
{
	pthread_t made[THREADS];

	pthread_barrier_init(&all_there, NULL, THREADS + 1);
	for (long i = 0; i < THREADS; i++)
		pthread_create(&made[i], NULL, thread_main, (void *)i);
	pthread_barrier_wait(&all_there);
	tell_ready();
	for (int i = 0; i < THREADS; i++)
		pthread_join(made[i], NULL);
}

__attribute__((noinline)) static void handler(int number)
{
	stand(number);
	handled++;
}

__attribute__((noinline)) int interrupted(int units)
{
	raise(SIGUSR1);
	return units + handled;
}

static void *on_another_stack(void *stack)
{
	stack_t other = { .ss_sp = stack, .ss_size = OTHER_STACK };

	sigaltstack(&other, NULL);
	return (void *)(long)interrupted(2);
}

/* Handlers on stacks of their own: of the program's thread and of another one. */
static void handlers(void)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK };
	pthread_t other;

	sigaction(SIGUSR1, &action, NULL);
	pthread_create(&other, NULL, on_another_stack, malloc(OTHER_STACK));
	tell_ready();
	on_another_stack(mmap(NULL, OTHER_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

__attribute__((noinline)) static long fill(struct order *order, char *label, double price, int *numbers)
{
	char local[32];

	snprintf(local, sizeof(local), "local of %s", label);
	tell_ready();
	pause();
	return order->amount + label[0] + (long)price + numbers[0] + local[0];
}

static void values(void)
{
	struct order *order = malloc(sizeof(*order));
	int numbers[3] = { 7, 8, 9 };

	order->amount = 42;
	order->name = strdup("a name on the heap");
	counter += fill(order, strdup("a label on the heap"), 2.5, numbers);
}

/* A parent of vfork sleeps in the kernel until its child ends, and cannot be interrupted. */
__attribute__((noinline)) static void wait_for_child(void)
{
	pid_t child = vfork();

	if (child == 0) {
		tell_ready();
		pause();
		_exit(0);
	}
	waitpid(child, NULL, 0);
}

static void *outlive(void *first)
{
	pthread_join(*(pthread_t *)first, NULL);
	tell_ready();
	stand(1);
	return NULL;
}

/* The first thread ends, another one goes on. */
static void leave(void)
{
	static pthread_t first;
	pthread_t other;

	first = pthread_self();
	pthread_create(&other, NULL, outlive, &first);
	pthread_exit(NULL);
}

static void count_signal(int number)
{
	(void)number;
	handled++;
}

/* Signals come at every moment; none may be lost or come twice. */
static int count_signals(void)
{
	struct sigaction action = { .sa_handler = count_signal };

	sigaction(SIGUSR1, &action, NULL);
	tell_ready();
	for (int i = 0; i < SIGNALS; i++) {
		raise(SIGUSR1);
		usleep(100);
	}
	puts(handled == SIGNALS ? "all handled" : "not as many handled as raised");
	return 0;
}

static void *end_at_once(void *argument)
{
	counter++;
	return argument;
}

/* Threads come and go for as long as standard input is open. */
static void churn(void)
{
	char byte;
	pthread_t reader;

	tell_ready();
	for (int i = 0; i < 3000; i++) {
		pthread_create(&reader, NULL, end_at_once, NULL);
		pthread_join(reader, NULL);
	}
	while (read(STDIN_FILENO, &byte, 1) > 0)
		counter++;
}

/* Counts in memory that the test maps, too. */
static void count(int file)
{
	volatile long *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

	tell_ready();
	for (;;)
		(*shared)++;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (strcmp(mode, "threads") == 0)
		threads();
	else if (strcmp(mode, "handlers") == 0)
		handlers();
	else if (strcmp(mode, "values") == 0)
		values();
	else if (strcmp(mode, "vfork") == 0)
		wait_for_child();
	else if (strcmp(mode, "leave") == 0)
		leave();
	else if (strcmp(mode, "signals") == 0)
		return count_signals();
	else if (strcmp(mode, "churn") == 0)
		churn();
	else if (strcmp(mode, "count") == 0)
		count(STDIN_FILENO);
	else if (strcmp(mode, "deep") == 0) {
		tell_ready();
		descend(0, 1500);
	} else
		return 2;
	return 0;
}
