"""Tasks as bars, drawn by rich in a thread of their own; rich is imported when a second has passed."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from cfi_tables.progress import Task

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_AFTER_S = 1.0
_PAUSE_S = 0.1
_MEGABYTE = 1_000_000


class Bars:
    """Tasks, and a thread that draws those that have taken a second; a `Watcher`."""

    def __init__(self, interleaved: bool) -> None:
        """Without `interleaved`, tasks that are so are not shown."""
        self._interleaved = interleaved
        self._tasks: list[Task] = []
        # Reading that was left unfinished ends whenever its generator is collected, perhaps while this is held.
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._drawn: Progress | None = None
        self._rows: dict[Task, TaskID] = {}

    def begin(self, task: Task) -> None:
        """Show the task once it has taken a second."""
        if task.interleaved and not self._interleaved:
            return
        with self._lock:
            self._tasks.append(task)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ptap-progress", daemon=True)
                self._thread.start()

    def end(self, task: Task) -> None:
        """Take its line away."""
        with self._lock:
            if task in self._tasks:
                self._tasks.remove(task)
                self._draw()

    def close(self) -> None:
        """Take away what is drawn; nothing is drawn any more."""
        self._closed.set()
        with self._lock:
            self._tasks.clear()
            self._draw()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(_PAUSE_S):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        """Draw the tasks that have taken long enough; nothing once there are none."""
        now = time.monotonic()
        shown = [task for task in self._tasks if now - task.begun >= _AFTER_S]
        if not shown:
            if self._drawn is not None:
                self._drawn.stop()
                self._drawn = None
                self._rows.clear()
            return
        if self._drawn is None:
            self._drawn = _rich_progress()
            self._drawn.start()
        for task in [each for each in self._rows if each not in shown]:
            self._drawn.remove_task(self._rows.pop(task))
        for task in shown:
            done = task.done
            if task not in self._rows:
                self._rows[task] = self._drawn.add_task(task.what, total=task.total, amount="")
            self._drawn.update(self._rows[task], completed=done, amount=_amount(task, done))
        self._drawn.refresh()


def _amount(task: Task, done: int) -> str:
    """How much is done, and of how much, as people read it."""
    if task.unit == "bytes":
        whole = "" if task.total is None else f" of {task.total / _MEGABYTE:,.1f}"
        return f"{done / _MEGABYTE:,.1f}{whole} MB" if done or task.total else ""
    whole = "" if task.total is None else f" of {task.total:,}"
    return f"{done:,}{whole} {task.unit}" if done or task.total else ""


def _rich_progress() -> Any:
    """An empty display, which takes its lines away at its end. What others write to standard error is put above it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
    )
