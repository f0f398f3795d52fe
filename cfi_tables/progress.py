"""How far long work is: whoever works says it here, and whoever cares watches. Nobody does unless `watch` was called.

Layers that know nothing of terminals say what they do; the command line draws it (`ptap.cli.progress_bars`). Work that
nobody watches costs an object. Imports nothing of weight, as everything may import it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

_Item = TypeVar("_Item")


class Task:
    """One piece of work. `done` and `total` count `unit`s; any thread may read them at any time.

    `total` is None where nobody knows. What is read while its results are written elsewhere is `interleaved`; other
    work is done before anything else happens.
    """

    __slots__ = ("_done", "begun", "interleaved", "measure", "total", "unit", "what")

    def __init__(
        self, what: str, total: int | None, unit: str, measure: Callable[[], int] | None, interleaved: bool
    ) -> None:
        self.what = what
        self.total = total
        self.unit = unit
        self.measure = measure
        self.interleaved = interleaved
        self.begun = time.monotonic()
        self._done = 0

    @property
    def done(self) -> int:
        """How much is done, as it was told last, or as it is measured now."""
        return self._done if self.measure is None else self.measure()

    @done.setter
    def done(self, value: int) -> None:
        self._done = value


class Watcher(Protocol):
    """Told of work in the thread that does it."""

    def begin(self, task: Task) -> None:
        """Work begins."""

    def end(self, task: Task) -> None:
        """It has ended, however it did. What was drawn of it is gone when this returns."""


_watcher: Watcher | None = None


@contextmanager
def watch(watcher: Watcher) -> Iterator[None]:
    """Have `watcher` told of the work that is begun in here, by any thread."""
    global _watcher
    before, _watcher = _watcher, watcher
    try:
        yield
    finally:
        _watcher = before


@contextmanager
def progress(
    what: str,
    total: int | None = None,
    unit: str = "bytes",
    *,
    measure: Callable[[], int] | None = None,
    interleaved: bool = False,
) -> Iterator[Task]:
    """Tell of the work that is done in here: a few words of what it is, and how much it will come to.

    `measure` is asked for how much is done, by other threads; without it the work sets `done`.
    """
    task = Task(what, total, unit, measure, interleaved)
    watcher = _watcher
    if watcher is None:
        yield task
        return
    watcher.begin(task)
    try:
        yield task
    finally:
        watcher.end(task)


def followed(
    items: Iterable[_Item], what: str, total: int | None = None, unit: str = "bytes", *, measure: Callable[[], int]
) -> Iterator[_Item]:
    """The items of a source that is read while what was made of them is written elsewhere, with `progress`."""
    with progress(what, total, unit, measure=measure, interleaved=True):
        yield from items
