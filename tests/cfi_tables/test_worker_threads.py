"""Threads that work on parts: kept from one piece of work to the next, woken on another processor, gone at a fork."""

from __future__ import annotations

import _thread
import os
import subprocess
import sys
import threading
import weakref
from functools import partial

import pytest

from cfi_tables import worker_threads
from cfi_tables.worker_threads import run_parts

_SECONDS = 60.0

_FORKS = """
import os, threading
from cfi_tables.worker_threads import run_parts

os.sched_getaffinity = lambda number: {0, 1}

def together():
    barrier = threading.Barrier(2)
    return run_parts([lambda: barrier.wait(60) >= 0] * 2, True)

assert together() == [True, True]
child = os.fork()
assert together() == [True, True]
if child == 0:
    os._exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture
def two_processors(monkeypatch):
    """Whatever this machine has."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda number: {0, 1})


def _together() -> list[int]:
    """The system's numbers of the two threads that two tasks ran on, each of which waits for the other."""
    barrier = threading.Barrier(2)

    def task() -> int:
        barrier.wait(_SECONDS)
        return threading.get_native_id()

    return run_parts([task, task], use_threads=True)


def test_a_thread_is_kept(two_processors):
    before = set(_together())
    assert len(before) == 2
    assert threading.get_native_id() in before
    assert set(_together()) == before


def test_a_thread_is_woken_on_another_processor_and_left_to_the_system_there(two_processors, monkeypatch):
    (other,) = set(_together()) - {threading.get_native_id()}
    calls = []
    monkeypatch.setattr(worker_threads, "_current_processor", lambda: 1)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *call: calls.append((threading.get_native_id(), *call)))
    assert other in _together()
    assert calls == [(threading.get_native_id(), other, {0}), (other, 0, {0, 1})]


def test_without_other_threads_all_is_done(two_processors, monkeypatch):
    def refuse(*arguments: object) -> int:
        raise RuntimeError("can't start new thread")

    worker_threads._end_kept()
    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    assert run_parts([lambda: 1, lambda: 2], use_threads=True) == [1, 2]


def test_what_was_worked_on_is_not_kept(two_processors):
    class Area:
        """Something of weight."""

    def part(area: Area) -> None:
        barrier.wait(_SECONDS)

    barrier, area, gone = threading.Barrier(2), Area(), threading.Event()
    seen = weakref.ref(area, lambda _: gone.set())
    run_parts([partial(part, area), partial(part, area)], use_threads=True)
    del area
    assert gone.wait(_SECONDS), seen


def test_a_thread_that_comes_late_is_not_waited_for(two_processors):
    """It is held up before it begins; what comes next has it all the same."""
    (other,) = set(_together()) - {threading.get_native_id()}
    (worker,) = [each for each in worker_threads._kept if each._number == other]
    lock = worker._woken
    worker._woken = threading.Lock()  # nobody waits for it, so it wakes nobody
    assert worker._woken.acquire()
    assert run_parts([threading.get_native_id] * 3, use_threads=True) == [threading.get_native_id()] * 3
    assert worker in worker_threads._kept
    assert not worker._woken.locked()
    assert run_parts([threading.get_native_id] * 3, use_threads=True) == [threading.get_native_id()] * 3
    worker._woken = lock
    assert other in _together()


def test_parent_and_child_work_on_after_a_fork():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _FORKS], capture_output=True, text=True, timeout=_SECONDS
    )
    assert (done.stdout, done.stderr) == ("3\n", "")
