"""Quick walks of samples that come one at a time: trace for trace what the trace builder says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from relay_reader.capture import Sample
from relay_reader.perf_data import read_perf_data
from unwind.quick_walk import QuickTraceBuilder
from unwind.trace import Trace
from unwind.trace_builder import ArgumentFrames, TraceBuilder


def traces(path: Path, builder: TraceBuilder) -> list[Trace]:
    found = []
    for event in read_perf_data(path):
        if isinstance(event, Sample):
            found.append(builder.build(event, None))
        else:
            builder.apply(event)
    return found


def test_quick_traces_are_those_of_the_trace_builder(record: Callable[..., Path]):
    """Some stacks are cut by the dump's size, others by a limit of frames; kernel frames are above them."""
    path = record("quick.data", "-e", "cpu-clock", "-F", "499", "--call-graph", "dwarf,2048")
    for depth in (10_000, 3):
        plain, quick = TraceBuilder(depth, ArgumentFrames.NONE), QuickTraceBuilder(depth)
        quick.hasten()
        expected = traces(path, plain)
        assert traces(path, quick) == expected and expected
        assert {module.path: count for module, count in quick.frames_without_lines.items()} == {
            module.path: count for module, count in plain.frames_without_lines.items()
        }


def test_it_is_quick_only_once_it_was_hastened(record: Callable[..., Path], monkeypatch):
    path = record("slow.data", "-e", "cpu-clock:u", "-F", "199", "--call-graph", "dwarf,2048")
    walked = []
    monkeypatch.setattr("unwind.quick_walk.QuickWalker.walk", lambda *_: walked.append(1))
    builder = QuickTraceBuilder(100)
    before = traces(path, builder)
    assert before and not walked
    builder.hasten()
    assert traces(path, builder) == before and walked  # what it cannot do, the other walk does
