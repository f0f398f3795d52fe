/* Four threads that each run three tasks; every thread's stack ends in the C library's thread start. */

#include <pthread.h>

#define THREADS 4
#define TASKS 3

__attribute__((noinline)) long run_task(long thread, long task)
{
	__asm__ volatile("" : "+r"(task));
	return thread * 100 + task;
}

__attribute__((noinline)) static long run_all_tasks(long thread)
{
	long sum = 0;

	for (long task = 0; task < TASKS; task++)
		sum += run_task(thread, task);
	return sum;
}

static void *thread_main(void *argument)
{
	long sum = run_all_tasks((long)argument);

	__asm__ volatile("" : "+r"(sum));
	return (void *)sum;
}

int main(void)
{
	pthread_t threads[THREADS];
	long total = 0;

	for (long i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, thread_main, (void *)i) != 0)
			return 2;
	for (long i = 0; i < THREADS; i++) {
		void *sum;
		pthread_join(threads[i], &sum);
		total += (long)sum;
	}
	return total != 100 * TASKS * (0 + 1 + 2 + 3) + THREADS * (0 + 1 + 2);
}
