"""User stacks behind the kernel's: the walk at the probe, the walk afterwards, and what the program itself noted."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
from kernel_module.packed_record import records_of

from cfi_tables.layout import StopReason
from ptap.kernel_module.report import CaptureReport
from relay_reader.capture import Sample
from relay_reader.hit_record import read_hit
from relay_reader.module_capture import ModuleCapture
from relay_reader.record_layout import RECORD_KIND_HIT, HitFlag
from relay_reader.record_schema import RECORD_HEAD
from unwind.capture_images import CaptureImages
from unwind.module import ModuleCatalog
from unwind.trace import Trace
from unwind.trace_builder import TraceBuilder

_READ = 'kernel.function("vfs_read")'
_FIXED = range(0x400000, 0x500000)
"""Where the program lies."""


class _Kept:
    def __init__(self) -> None:
        self.traces: list[Trace] = []

    def write(self, trace: Trace) -> None:
        self.traces.append(trace)


def _samples(booted, name: str) -> list[Sample]:
    return [each for each in ModuleCapture(_capture(booted, name)).events() if isinstance(each, Sample)]


def _capture(booted, name: str) -> Path:
    return booted.run.results / f"user-{name}"


def _lines(booted, name: str) -> list[tuple[int, str, list[int]]]:
    lines = [line.split() for line in (booted.run.results / f"user-{name}.notes").read_text().splitlines()]
    return [(int(pid), kind, [int(call, 16) for call in calls]) for kind, pid, *calls in lines]


def _notes(booted, name: str) -> dict[int, list[tuple[str, list[int]]]]:
    """What the program noted before each read: pid -> (kind, the calls that were active).

    Where it found trampolines on its stack, what it noted without them: it lies at fixed addresses, and does the same.
    """
    found = defaultdict(list)
    for (pid, kind, _), (_, same, calls) in zip(_lines(booted, name), _lines(booted, "words"), strict=False):
        assert kind == same
        found[pid].append((kind, calls))
    return found


def _traces(booted, name: str) -> dict[int, list[Trace]]:
    """Those of the reads that the program made itself: by pid, in order."""
    kept = _Kept()
    report = CaptureReport(_capture(booted, name), str(booted.vmlinux))
    report.write(kept)
    assert report.account.lost == 0
    found = defaultdict(list)
    for trace in kept.traces:
        if trace.probe == _READ and any(frame.function == "probed" for frame in trace.frames):
            found[trace.pid].append(trace)
    return found


def _calls(trace: Trace) -> list[int]:
    """Return addresses in the program, from the caller of `probed` on."""
    addresses = [frame.address for frame in trace.frames if frame.space == "user" and not frame.inlined]
    return [address for address in addresses if address in _FIXED][1:]


def _is_whole(trace: Trace) -> bool:
    functions = [frame.function for frame in trace.frames if frame.space == "user"]
    return trace.stop is StopReason.END_OF_STACK and functions[-1] == "_start" and "main" in functions


def _compare(trace: Trace, kind: str, noted: list[int]) -> None:
    """The trace has the calls that the program noted; a call of libc's is not in its list."""
    own = [address for address in noted if address in _FIXED]
    calls = _calls(trace)
    if kind in ("callback", "signal"):
        rest = iter(calls)
        assert all(address in rest for address in own), (kind, trace.stop, calls, own)
    else:
        assert calls[: len(own)] == own and len(calls) == len(own) + 1, (kind, trace.stop, calls, own)
    assert trace.frames[0].function == "vfs_read" and trace.frames[0].space == "kernel"
    assert any("entry_SYSCALL_64" in (frame.function or "") for frame in trace.frames) or trace.frames[0].line is None


@pytest.mark.parametrize("name", ["words", "frames", "none", "untold"])
def test_every_noted_stack_is_found_whole(booted, name):
    """Also before the module knew the program: what was copied then is enough to find the rest afterwards."""
    traces = _traces(booted, name)
    compared = defaultdict(int)
    for pid, noted in _notes(booted, name).items():
        # Without slices, what the module did not know is lost.
        skipped = len(noted) - len(traces[pid])
        assert skipped == 0 or name == "none", (pid, skipped, [kind for kind, _ in noted])
        for trace, (kind, calls) in zip(traces[pid], noted[skipped:], strict=True):
            if trace.stop is StopReason.STACK_CUT:
                assert kind == "deep" and name != "untold"
                continue
            if name == "none" and not _is_whole(trace):
                continue
            assert _is_whole(trace), (kind, trace.stop, trace.stop_text)
            _compare(trace, kind, calls)
            compared[kind] += 1
    assert set(compared) >= {"deep", "shallow", "callback", "signal"}, compared
    assert name == "none" or "child" in compared


def test_the_probe_itself_finds_whole_stacks(booted):
    """Once told, deep stacks, those through libc and those through a signal end at the probe, before and after exec."""
    whole = defaultdict(int)
    for sample in _samples(booted, "words"):
        user = sample.user_stack
        if user is not None and user.generation and user.stop == StopReason.END_OF_STACK:
            assert not user.flags & (HitFlag.USER_FLAT | HitFlag.USER_UNTOLD)
            whole[user.start_stack] += 1
    assert len(whole) == 2 and all(count >= 4 for count in whole.values())


@pytest.mark.parametrize("name", ["words", "frames", "returns"])
def test_the_walk_afterwards_is_that_at_the_probe(booted, name):
    capture = ModuleCapture(_capture(booted, name))
    files = {bytes.fromhex(key): entry["path"] for key, entry in capture.description["files"].items()}
    builder = TraceBuilder(1024, catalog=ModuleCatalog(CaptureImages(files, capture.spaces.images, ()).open))
    compared = 0
    for event in capture.events():
        if not isinstance(event, Sample):
            builder.apply(event)
        elif event.user_stack is not None and event.user_stack.stop == StopReason.END_OF_STACK:
            event.kernel_stack, event.kernel_chain = None, ()
            trace = builder.build(event, None)
            assert tuple(each.address for each in trace.frames if not each.inlined) == event.user_stack.chain
            assert trace.stop is StopReason.END_OF_STACK
            compared += 1
    assert compared > 8


def test_mappings_are_believed_of_their_own_program_only(booted):
    capture = ModuleCapture(_capture(booted, "words"))
    told = {space.generation: space for space in capture.spaces.all()}
    for sample in _samples(booted, "words"):
        user = sample.user_stack
        if user is not None and user.generation:
            assert (told[user.generation].pid, told[user.generation].start_stack) == (sample.pid, user.start_stack)
    assert {user.flags & HitFlag.USER_UNTOLD for user in _users(booted, "untold")} >= {HitFlag.USER_UNTOLD}


def _users(booted, name):
    return [sample.user_stack for sample in _samples(booted, name) if sample.user_stack is not None]


@pytest.mark.parametrize(("name", "probe"), [("words", 1), ("returns", 1), ("returns", 3)])
def test_probes_of_the_program_itself(booted, name, probe):
    """An entry stands at the function, a return in its caller; both have the calls that the program noted."""
    hits = defaultdict(list)
    for sample in _samples(booted, name):
        if sample.places == (probe,):
            hits[sample.pid].append(sample)
    is_return, compared = probe == 3, 0
    for pid, noted in _notes(booted, name).items():
        assert len(hits[pid]) == len(noted)
        for sample, (kind, calls) in zip(hits[pid], noted, strict=True):
            user = sample.user_stack
            assert user is not None and sample.kernel_stack is None
            assert bool(user.flags & HitFlag.RETURN_PROBE) is is_return
            if user.stop == StopReason.END_OF_STACK and kind in ("deep", "shallow", "child"):
                own = [address for address in calls if address in _FIXED]
                found = [address for address in user.chain if address in _FIXED]
                assert found[:-1] == ([] if is_return else [sample.registers[16]]) + own, kind
                compared += 1
    assert compared > 2


def test_return_addresses_that_probes_have_replaced_are_put_back(booted):
    """The program's own list has the trampoline where a return is awaited: the traces have the call."""
    assert sum(address % 4096 == 0 for _, _, calls in _lines(booted, "returns") for address in calls) > 20
    traces = _traces(booted, "returns")
    for pid, noted in _notes(booted, "returns").items():
        for trace, (kind, calls) in zip(traces[pid], noted, strict=True):
            if trace.stop is not StopReason.STACK_CUT:
                assert _is_whole(trace), (kind, trace.stop)
                _compare(trace, kind, calls)


def test_a_flat_copy_is_walked_afterwards_as_far_as_it_goes(booted):
    traces = _traces(booted, "flat")
    for pid, noted in _notes(booted, "flat").items():
        for trace, (kind, calls) in zip(traces[pid], noted, strict=True):
            if kind == "deep":
                assert trace.stop is StopReason.STACK_CUT
            else:
                assert _is_whole(trace)
                _compare(trace, kind, calls)
    assert all(len(user.chain) == 1 for user in _users(booted, "flat"))


def test_more_is_recorded_where_frames_are_asked_for(booted):
    def words(name: str) -> float:
        whole = [s for s in _samples(booted, name) if s.user_stack and s.user_stack.stop == StopReason.END_OF_STACK]
        return sum(len(piece.data) for sample in whole for piece in sample.slices) / sum(
            len(sample.user_stack.chain) for sample in whole if sample.user_stack
        )

    assert words("frames") > 1.5 * words("words")
    assert not any(sample.slices for sample in _samples(booted, "none"))


def test_a_record_with_a_user_stack_is_small(booted):
    """A tenth of the 8 KiB that perf copies, for all of a system call's and ten or so frames of the user."""
    sizes = []
    for record in records_of(_capture(booted, "words")):
        if RECORD_HEAD.parse(record).kind != RECORD_KIND_HIT:
            continue
        sample = read_hit(memoryview(record)).sample
        user = sample.user_stack
        if user is not None and user.stop == StopReason.END_OF_STACK and len(user.chain) < 15 and sample.kernel_stack:
            assert len(sample.kernel_chain) >= 4 and len(user.chain) > 8 and sample.slices
            sizes.append(len(record))
    assert len(sizes) > 4 and max(sizes) <= 819, sizes


def test_what_is_not_true_of_a_process_is_refused(booted):
    refused = json.loads((booted.run.results / "user.json").read_text())["refused"]
    assert refused == {
        "as it is": None,
        "a moved mapping": "ESTALE",
        "another file": "ESTALE",
        "another part of the file": "ESTALE",
        "one left out": "ESTALE",
        "another program": "ESTALE",
        "not sorted": "EINVAL",
        "no such table": "ENOENT",
        "a damaged table": "EBADMSG",
        "no such process": "ESRCH",
        "a cut message": "EINVAL",
        "forgotten": None,
    }


def test_recorded_frames_have_their_arguments(booted):
    """The recursion counts down: where a level's value is there, it is the caller's less one, or the same in `wide`."""
    found = 0
    for traces in _traces(booted, "frames").values():
        for trace in traces:
            expected = 0
            for frame in trace.frames:
                if frame.function in ("narrow", "wide"):
                    value = next((each.value for each in frame.arguments if each.name == "levels"), None)
                    assert value is None or int(value) == expected, (frame, expected)
                    found += value is not None
                    expected += frame.function == "narrow"
    assert found > 20
