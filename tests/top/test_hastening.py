"""Quicker walks are asked for, made by another process, and left where the run ends before."""

from __future__ import annotations

import threading

from ptap.top import hastening
from unwind.quick_walk import QuickTraceBuilder


class Builder(QuickTraceBuilder):
    """Tells when it is hastened."""

    def __init__(self) -> None:
        super().__init__(10)
        self.hastened = threading.Event()

    def hasten(self) -> None:
        super().hasten()
        self.hastened.set()


def test_the_code_is_made_when_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(hastening, "is_made", lambda: False)
    builder = Builder()
    run = hastening.Hastening(builder)
    run.begin()
    assert not builder.hastened.is_set()
    run.ask()
    run.ask()
    assert builder.hastened.wait(300)
    run.end()


def test_the_code_that_is_there_is_used_at_once(monkeypatch):
    monkeypatch.setattr(hastening, "is_made", lambda: True)
    builder = Builder()
    run = hastening.Hastening(builder)
    run.begin()
    run.end()
    assert builder.hastened.is_set()


def test_the_end_of_the_run_does_not_wait_for_it(monkeypatch):
    monkeypatch.setattr(hastening, "is_made", lambda: False)
    monkeypatch.setattr(hastening, "_MAKE", "import time; time.sleep(1000)")
    builder = Builder()
    run = hastening.Hastening(builder)
    run.ask()
    run.end()
    assert not builder.hastened.is_set()
