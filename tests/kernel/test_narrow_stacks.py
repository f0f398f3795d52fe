"""User stacks of 32-bit code: copied at the probe with the registers, and walked afterwards."""

from __future__ import annotations

import json
from pathlib import Path

from ptap.kernel_module.report import CaptureReport
from relay_reader.capture import EM_386, Sample, UserStack
from relay_reader.module_capture import ModuleCapture
from relay_reader.record_layout import HitFlag
from unwind.trace import Trace

_FUNCTIONS = ["read_one", "wide", "narrow", "one_round", "begin", "_start"]
_CALLS = ["read_one(", "wide(3)", "narrow(4)", "one_round("]
"""By what the lines of the frames but the innermost one are told."""
_COMM = "narrow_workload"


class _Kept:
    def __init__(self) -> None:
        self.traces: list[Trace] = []

    def write(self, trace: Trace) -> None:
        self.traces.append(trace)


def _capture(booted) -> Path:
    return booted.run.results / "user-narrow"


def _stacks(booted) -> list[tuple[Sample, UserStack]]:
    """Of the program's reads."""
    samples = [event for event in ModuleCapture(_capture(booted)).events() if isinstance(event, Sample)]
    return [(each, each.user_stack) for each in samples if each.user_stack is not None and each.machine == EM_386]


def test_the_program_ran(booted):
    status, _ = json.loads((booted.run.results / "user.json").read_text())["narrow"]
    assert status == 0


def test_a_32_bit_stack_is_told_as_such_and_copied(booted):
    stacks = _stacks(booted)
    assert len(stacks) >= 2 and any(user.generation for _, user in stacks)
    for sample, user in stacks:
        assert user.flags & HitFlag.USER_NARROW and user.flags & HitFlag.USER_FLAT
        assert user.chain == (sample.registers[8],) and user.chain[0] < 1 << 32


def test_a_32_bit_stack_is_walked_afterwards(booted):
    """Behind the kernel's frames, to the program's start, with the lines of the calls."""
    kept = _Kept()
    CaptureReport(_capture(booted), str(booted.vmlinux)).write(kept)
    traces = [trace for trace in kept.traces if trace.comm == _COMM[:15] and _FUNCTIONS[0] in _names(trace)]
    assert len(traces) == len(_stacks(booted))
    source = (Path(__file__).parent / "narrow_workload.c").read_text().splitlines()
    for trace in traces:
        assert _names(trace) == _FUNCTIONS, (trace.stop, trace.stop_text)
        frames = [frame for frame in trace.frames if frame.space == "user" and not frame.inlined]
        lines = [frame.line for frame in frames]
        assert all(line and call in source[line - 1] for line, call in zip(lines[1:], _CALLS, strict=False)), lines
        kernel = [frame.function or "" for frame in trace.frames if frame.space == "kernel"]
        assert kernel[0] == "vfs_read" and (booted.system_map is not None or "int80" in kernel[-1].lower()), kernel
        assert trace.stop_text is None


def _names(trace: Trace) -> list[str | None]:
    """Functions of the user's frames."""
    return [frame.function for frame in trace.frames if frame.space == "user" and not frame.inlined]
