"""Parts of one piece of work, done at once.

Owns how many threads there are, and those that wait for work. Compiled hot loops run without the interpreter's lock, so
threads share the processors; plain ones gain nothing by threads and are called one after another.

Parts take a few milliseconds, which is less than a system takes to see that two threads share one processor while
another one is idle. So threads are kept from one piece of work to the next, and a thread is woken on another processor
than the one that gives it work; from there on it is the system's to move.
"""

from __future__ import annotations

import _thread
import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

_Result = TypeVar("_Result")


def worker_count() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def run_parts(tasks: Sequence[Callable[[], _Result]], use_threads: bool) -> list[_Result]:
    """What each task gives, in their order. Raises what the first of the failed ones raised."""
    processors = os.sched_getaffinity(0)
    workers = min(len(processors), len(tasks))
    if not use_threads or workers < 2:
        return [task() for task in tasks]
    results: dict[int, _Result] = {}
    failures: dict[int, BaseException] = {}
    waiting = iter(range(len(tasks)))
    left = len(tasks)
    lock, finished = threading.Lock(), threading.Lock()
    finished.acquire()

    def work() -> None:
        nonlocal left
        while True:
            with lock:
                number = next(waiting, None)
            if number is None:
                break
            try:
                results[number] = tasks[number]()
            except BaseException as error:
                failures[number] = error
            with lock:
                left -= 1
                if left == 0:
                    finished.release()

    others: list[_Worker] = []
    try:
        for _ in range(workers - 1):
            others.append(_waiting_worker() or _Worker())
            others[-1].begin(work, processors)
    except RuntimeError:  # the system gives no more threads
        pass
    try:
        work()
        finished.acquire()
    finally:
        for other in others:
            other.take_back()
        _kept.extend(others)
    if failures:
        raise failures[min(failures)]
    return [results[number] for number in range(len(tasks))]


class _Worker:
    """A thread that waits for work.

    Nobody waits for it: where the system lets it run late, what it was to do is done by then.
    """

    def __init__(self) -> None:
        """Raises RuntimeError."""
        self._woken, self._ended = threading.Lock(), threading.Lock()
        self._woken.acquire()
        self._ended.acquire()
        self._work: Callable[[], None] | None = None
        self._processors: set[int] = set()
        self._is_ending = False
        self._number = 0
        """The system's number of the thread, 0 until it runs."""
        # threading.Thread waits until a thread has begun, which is as long as some parts take.
        _thread.start_new_thread(self._serve, ())

    def begin(self, work: Callable[[], None], processors: set[int]) -> None:
        """Have it do `work`, on any of `processors`, at first on another one than this thread's."""
        self._processors, self._work = processors, work
        here = _current_processor()
        if self._number and here is not None and processors != {here}:
            with suppress(OSError):
                os.sched_setaffinity(self._number, processors - {here})
        self._wake()

    def take_back(self) -> None:
        """Have it not begin with work that it has not begun with."""
        self._work = None

    def end(self) -> None:
        """Have no such thread any more."""
        self._is_ending = True
        self._wake()
        self._ended.acquire()

    def _wake(self) -> None:
        if self._woken.locked():  # else it is yet to see that it was woken before
            self._woken.release()

    def _serve(self) -> None:
        self._number = threading.get_native_id()
        while not self._is_ending:
            self._woken.acquire()
            work, self._work = self._work, None
            if work is not None:
                with suppress(OSError):
                    os.sched_setaffinity(0, self._processors)
                work()
                del work  # which holds what it worked on
        self._ended.release()


_kept: list[_Worker] = []


def _waiting_worker() -> _Worker | None:
    """One of those that wait, None when none does; other threads take some as well."""
    with suppress(IndexError):
        return _kept.pop()
    return None


def _end_kept() -> None:
    """End the threads that wait: a process that forks is to have as few as it can, and the child has none of them."""
    while worker := _waiting_worker():
        worker.end()


os.register_at_fork(before=_end_kept, after_in_child=_kept.clear)


def _current_processor() -> int | None:
    """The processor that this thread runs on, None where that cannot be asked."""
    ask = _processor_query()
    return None if ask is None else int(ask())


@cache
def _processor_query() -> Any:
    with suppress(OSError, AttributeError):
        return ctypes.PyDLL(None).sched_getcpu
    return None
