"""The module in running kernels: what it refuses, what it counts, and that nothing of it stays."""

from __future__ import annotations

from kernel.debug_kernel import RELEASE as DEBUG_RELEASE
from kernel.guest import complaints

from relay_reader.capture import RecordsLost, Sample
from relay_reader.module_capture import ModuleCapture

_READS = 4000
_REASONS = {
    "another kernel": "of another kernel",
    "an unknown anchor": "no anchor of the name xnit_task",
    "a damaged table": "a damaged table",
    "a cut table": "a damaged table",
    "a table first": "a table before any anchor",
    "another place": "is not the place that was meant",
    "no such symbol": "the kernel does not probe no_such_",
    "twice": "was started before",
    "no message": "not a message",
    "a damaged predicate": "a damaged predicate: fault",
    "a cut predicate": "a damaged predicate: fault",
    "a second predicate": "a second predicate",
    "too much memory": "settings out of bounds",
}


def test_what_is_wrong_is_refused_with_its_reason(booted):
    assert set(booted.seen["refused"]) == set(_REASONS)
    for what, reason in _REASONS.items():
        assert reason in (booted.seen["refused"][what] or ""), (what, booted.seen["refused"][what])


def test_the_command_ran(booted):
    assert booted.seen["status"] == booted.seen["read status"] == 0


def _reads(capture: ModuleCapture) -> list[Sample]:
    return [event for event in capture.events() if isinstance(event, Sample)]


def test_a_reader_that_keeps_up_loses_nothing(booted):
    capture = ModuleCapture(booted.run.results / "reads")
    assert sum(account.dropped for account in capture.accounts) == 0
    assert sum(account.hits for account in capture.accounts) == len(_reads(capture)) >= _READS


def test_without_a_reader_every_loss_is_counted(booted):
    capture = ModuleCapture(booted.run.results / "unread")
    kept, dropped = len(_reads(capture)), sum(account.dropped for account in capture.accounts)
    assert dropped > 0 and kept > 0
    assert sum(account.hits for account in capture.accounts) == kept + dropped >= _READS
    lost = [event for event in capture.events() if isinstance(event, RecordsLost)]
    assert sum(event.count for event in lost) == dropped


def test_nothing_stays(booted):
    assert booted.seen["cycles"] > 1 and not booted.seen["left"]


def test_the_kernel_has_not_complained(booted):
    assert complaints(booted.run.kernel_log) == []


def test_size(booted):
    # What checks itself is larger.
    assert booted.module_size <= 120 * 1024 or booted.release == DEBUG_RELEASE
