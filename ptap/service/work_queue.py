"""Jobs that take a while, done one after another by one thread; whoever wants a result waits for it, but not forever.

Reports and symbols are made by code that one thread runs at a time; requests come by many.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

_T = TypeVar("_T")


class Unfinished(Exception):
    """A job is not done yet; one with a key goes on."""


class WorkQueue:
    """Jobs with the same key are one job. The thread does not keep the process from ending."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Hashable, Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._pending: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._work, name="ptap-work", daemon=True).start()

    def result(self, job: Callable[[], _T], seconds: float, key: Hashable = None) -> _T:
        """What `job` returns or raises. Raises Unfinished after `seconds`; a job without a key is then given up."""
        future: Future[_T] = self._submit(key, job)
        try:
            return future.result(seconds)
        except TimeoutError:
            if future.done():  # at the last moment, or it is the job's own error
                return future.result()
            if key is None:
                future.cancel()
            raise Unfinished from None

    def _submit(self, key: Hashable, job: Callable[[], Any]) -> Future[Any]:
        with self._lock:
            future = self._pending.get(key) if key is not None else None
            if future is None:
                future = Future()
                if key is not None:
                    self._pending[key] = future
                self._jobs.put((key, job, future))
            return future

    def _work(self) -> None:
        while True:
            key, job, future = self._jobs.get()
            if future.set_running_or_notify_cancel():
                try:
                    result = job()
                except BaseException as error:
                    self._forget(key)
                    future.set_exception(error)
                else:
                    self._forget(key)
                    future.set_result(result)

    def _forget(self, key: Hashable) -> None:
        """Before the result is given: who asks afterwards asks anew."""
        if key is not None:
            with self._lock:
                del self._pending[key]
