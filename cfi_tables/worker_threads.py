"""Parts of one piece of work, done at once.

Owns how many threads there are. Compiled hot loops run without the interpreter's lock, so threads share the processors;
plain ones gain nothing by threads and are called one after another.
"""

from __future__ import annotations

import _thread
import os
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

_Result = TypeVar("_Result")


def worker_count() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def run_parts(tasks: Sequence[Callable[[], _Result]], use_threads: bool) -> list[_Result]:
    """What each task gives, in their order. Raises what the first of the failed ones raised."""
    workers = min(worker_count(), len(tasks))
    if not use_threads or workers < 2:
        return [task() for task in tasks]
    results: dict[int, _Result] = {}
    failures: dict[int, BaseException] = {}
    waiting = iter(range(len(tasks)))
    lock = threading.Lock()

    def work(done: threading.Lock | None) -> None:
        while True:
            with lock:
                number = next(waiting, None)
            if number is None:
                break
            try:
                results[number] = tasks[number]()
            except BaseException as error:
                failures[number] = error
        if done:
            done.release()

    # threading.Thread waits until a thread has begun, which is as long as some parts take.
    others = []
    for _ in range(workers - 1):
        done = threading.Lock()
        done.acquire()
        try:
            _thread.start_new_thread(work, (done,))
        except RuntimeError:  # the system gives no more threads
            break
        others.append(done)
    work(None)
    for done in others:
        done.acquire()
    if failures:
        raise failures[min(failures)]
    return [results[number] for number in range(len(tasks))]
