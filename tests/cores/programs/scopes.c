// Blocks within blocks, one name in several of them, static variables, and what the core file leaves to the program's
// file: constants, and data that nobody wrote to.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node {
	int key;
	struct node *next;
	const char *name;
};

static const int primes[4] = {2, 3, 5, 7};
static char never_written[3 * 65536] = "as in the file";
extern int elsewhere;

static int leaf(struct node *node, int depth)
{
	static int calls = 3;
	int value = depth * 2;
	char text[16];
	const int *prime = &primes[2];
	const char *plain = never_written;

	calls++;
	snprintf(text, sizeof text, "depth %d", depth);
	for (int value = 0; value < 3; value++) {
		double part = value * 1.5;
		if (value == 2 && depth == 0) {
			const char *value = node->next->next->name;
			if (strlen(value) == *prime - 4U)
				abort();
		}
		elsewhere += (int)part;
	}
	if (depth > 0)
		return leaf(node, depth - 1) + value + plain[depth];
	return value;
}

int elsewhere = 7;

int main(void)
{
	struct node first = {1, NULL, "a"}, second = {2, &first, "b"}, third = {3, &second, "c"};

	return leaf(&third, 5);
}
