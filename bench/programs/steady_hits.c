// Calls hit() RATE times a second for SECONDS, above more than 8 KiB of stack: steady_hits RATE SECONDS.
#define _GNU_SOURCE
#include <stdlib.h>
#include <time.h>

#define ROOM 9000

static volatile long sink;

__attribute__((noinline)) void hit(long number) {
    sink = number;
    __asm__ volatile("" : : : "memory");
}

__attribute__((noinline)) static void keep_on(long rate, long seconds) {
    volatile char room[ROOM];
    struct timespec now;
    for (int at = 0; at < ROOM; at++)
        room[at] = (char)at;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long long begin = now.tv_sec * 1000000000LL + now.tv_nsec;
    for (long number = 0; number < rate * seconds; number++) {
        long long due = begin + number * 1000000000LL / rate;
        struct timespec until = {due / 1000000000, due % 1000000000};
        room[number % ROOM] = (char)number;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, 0);
        hit(number);
    }
}

int main(int argc, char **argv) {
    keep_on(argc > 1 ? atol(argv[1]) : 1000, argc > 2 ? atol(argv[2]) : 1);
    return 0;
}
