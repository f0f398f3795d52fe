/* Counts words in threads, and again in a child process. Things to try, from the project's root:
 *
 * Every hit tells its thread and process; threads and children are followed:
 *   ptap --backtrace 'process("examples/build/workers").function("count_words")' -- examples/build/workers
 *
 * Who waits for a lock, and where?
 *   ptap --backtrace 'process("libc.so.6").function("pthread_mutex_lock")' -- examples/build/workers
 */

#include <ctype.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS 2

static const char *const texts[] = {
	"the quick brown fox",
	"jumps over",
	"the lazy dog",
	"and is traced on the way",
};

struct job_queue {
	pthread_mutex_t lock;
	size_t next, count;
	unsigned int words;
};

struct worker {
	pthread_t thread;
	int id;
	struct job_queue *queue;
};

static inline bool starts_word(const char *text, size_t at)
{
	return !isspace((unsigned char)text[at]) && (at == 0 || isspace((unsigned char)text[at - 1]));
}

__attribute__((noinline)) static unsigned int count_words(const char *text, int worker_id)
{
	unsigned int words = 0;

	for (size_t at = 0; text[at]; at++)
		words += starts_word(text, at);
	return words > 100 ? (unsigned int)worker_id : words;
}

static const char *take_job(struct job_queue *queue)
{
	const char *text = NULL;

	pthread_mutex_lock(&queue->lock);
	if (queue->next < queue->count)
		text = texts[queue->next++];
	pthread_mutex_unlock(&queue->lock);
	return text;
}

static void run_jobs(struct worker *worker)
{
	for (const char *text; (text = take_job(worker->queue)) != NULL;) {
		unsigned int words = count_words(text, worker->id);

		pthread_mutex_lock(&worker->queue->lock);
		worker->queue->words += words;
		pthread_mutex_unlock(&worker->queue->lock);
	}
}

static void *worker_main(void *argument)
{
	run_jobs(argument);
	return NULL;
}

static unsigned int count_all(const char *who)
{
	struct job_queue queue = { PTHREAD_MUTEX_INITIALIZER, 0, sizeof(texts) / sizeof(texts[0]), 0 };
	struct worker workers[WORKERS];

	for (int id = 0; id < WORKERS; id++) {
		workers[id] = (struct worker){ .id = id, .queue = &queue };
		if (pthread_create(&workers[id].thread, NULL, worker_main, &workers[id]) != 0)
			return 0;
	}
	for (int id = 0; id < WORKERS; id++)
		pthread_join(workers[id].thread, NULL);
	printf("%s: %u words\n", who, queue.words);
	fflush(stdout);
	return queue.words;
}

int main(void)
{
	unsigned int words = count_all("parent");
	pid_t child = fork();
	int status = 1;

	if (child == 0)
		_exit(count_all("child") == words ? 0 : 1);
	if (child > 0)
		waitpid(child, &status, 0);
	return status == 0 ? 0 : 1;
}
