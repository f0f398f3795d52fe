/* Forks without exec: the child works in copies of the parent's mappings, and forks once more. */

#include <sys/wait.h>
#include <unistd.h>

__attribute__((noinline)) int work_in_child(int generation)
{
	__asm__ volatile("" : "+r"(generation));
	return generation;
}

__attribute__((noinline)) int spawn_generation(int generation)
{
	int status = 1;
	pid_t child = fork();

	if (child == 0) {
		int result = work_in_child(generation) != generation;
		if (generation < 2)
			result |= spawn_generation(generation + 1);
		_exit(result);
	}
	if (child > 0)
		waitpid(child, &status, 0);
	return status != 0;
}

int main(void)
{
	return spawn_generation(1);
}
