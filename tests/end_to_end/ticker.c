// Calls tick() again and again, so that a tracer can come, look and go.
// ticker PAUSE_MS COUNT [MODE]: `catch` ends with status 7 at SIGINT or SIGTERM, `ignore` ignores SIGINT,
// `threads` has three more threads that tick for ever, `kill` ends itself by SIGKILL.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t asked;
static int pause_us;

static void on_signal(int number) {
    asked = number;
}

__attribute__((noinline)) int tick(int number, const char *who) {
    __asm__ volatile("" : : "r"(who) : "memory");
    return number * 2;
}

static void *worker(void *who) {
    for (int number = 0;; number++) {
        tick(number, who);
        usleep(pause_us);
    }
    return NULL;
}

int main(int argc, char **argv) {
    pause_us = atoi(argv[1]) * 1000;
    int count = atoi(argv[2]);
    const char *mode = argc > 3 ? argv[3] : "";
    if (strcmp(mode, "catch") == 0) {
        signal(SIGINT, on_signal);
        signal(SIGTERM, on_signal);
    }
    if (strcmp(mode, "ignore") == 0)
        signal(SIGINT, SIG_IGN);
    for (int i = 0; i < 3 && strcmp(mode, "threads") == 0; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, worker, "worker");
    }
    int sum = 0;
    for (int number = 0; number < count && !asked; number++) {
        sum += tick(number, "main");
        usleep(pause_us);
    }
    printf("sum %d\n", sum);
    fflush(stdout);
    if (strcmp(mode, "kill") == 0)
        kill(getpid(), SIGKILL);
    return asked ? 7 : 3;
}
