/*
 * Computes and reads /dev/urandom by turns, each as long as the other, for so many seconds of its own processor time, in
 * functions without frame pointers: busy_reader SECONDS.
 */

#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int source;
static volatile unsigned long sum;

static long used_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return time.tv_sec * 1000000000l + time.tv_nsec;
}

__attribute__((noinline)) static void read_much(void)
{
	static char buffer[32768];

	if (read(source, buffer, sizeof(buffer)) != sizeof(buffer))
		abort();
	sum += buffer[0];
}

__attribute__((noinline)) static void compute(long until_ns)
{
	do {
		for (int round = 0; round < 10000; round++)
			sum += round ^ (sum << 1);
	} while (used_ns() < until_ns);
	sum++;
}

__attribute__((noinline)) static void take_turn(void)
{
	long begin = used_ns(), middle;

	read_much();
	middle = used_ns();
	compute(2 * middle - begin);
	sum++;
}

int main(int argc, char **argv)
{
	/* What was used before exec counts, too. */
	long end_ns = used_ns() + (argc > 1 ? atof(argv[1]) : 1) * 1e9;

	source = open("/dev/urandom", O_RDONLY);
	if (source < 0)
		return 1;
	while (used_ns() < end_ns)
		take_turn();
	return 5;
}
