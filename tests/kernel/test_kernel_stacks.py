"""Stacks of running kernels: the walk at the probe, the walk afterwards and the kernel's own, hit by hit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

from kernel.conftest import FUNCTIONS
from kernel.oracle_difference import OPTIMIZED, RUN_TIME_CODE, SAME, TRAMPOLINE, Comparison
from kernel_module.packed_record import records_of

from cfi_tables.image_file import open_image
from cfi_tables.layout import StopReason
from ptap.kernel_module.report import CaptureReport
from ptap.probe.point import ProbeKind
from relay_reader.capture import KernelStack, Sample
from relay_reader.hit_record import read_hit
from relay_reader.record_layout import RECORD_KIND_HIT, HitFlag
from relay_reader.record_schema import RECORD_HEAD
from unwind.kernel.kernel_walk import KernelWalker
from unwind.module import ModuleCatalog
from unwind.trace import Trace


def _hits(booted) -> list[tuple[Sample, KernelStack]]:
    hits = [event for event in booted.stacks.events() if isinstance(event, Sample)]
    return [(sample, sample.kernel_stack) for sample in hits if sample.kernel_stack is not None]


def test_every_probe_is_hit(booted):
    hit = Counter(booted.places[sample.places[0]].function for sample, _ in _hits(booted))
    assert set(hit) == set(FUNCTIONS), booted.package.build
    assert sum(place.function == "c_start" for place in booted.places) > 1


def test_the_place_that_was_meant_is_hit(booted):
    """An entry's pc is the place in vmlinux, or behind the instruction there for indirect branches."""
    for sample, stack in _hits(booted):
        if not stack.flags & HitFlag.RETURN_PROBE:
            place = booted.places[sample.places[0]]
            assert stack.registers[16] - stack.slide - place.address in (0, 4), place.name


def test_the_walk_at_the_probe_is_the_kernels_own(booted, tell):
    """From the caller of the probed function on both traces are the same, or it is known why they are not."""
    places = [place for place in booted.places if place.point.kind is ProbeKind.RETURN]
    compared = Comparison(open_image(booted.vmlinux), booted.name_at, frozenset(place.address for place in places))
    found = Counter()
    for sample, stack in _hits(booted):
        # A return probe's first frame is the caller already, of which the kernel has the address, too.
        chain = sample.kernel_chain if stack.flags & HitFlag.RETURN_PROBE else sample.kernel_chain[1:]
        found[compared.difference(stack, chain)] += 1
    counts = ", ".join(f"{count} {cause}" for cause, count in found.most_common())
    tell(f"{booted.package.build}: of {found.total()} traces beside the kernel's own are {counts}")
    assert found[SAME] + found[OPTIMIZED] > found.total() // 2 and found[RUN_TIME_CODE] < 0.05 * found.total()
    assert (found[TRAMPOLINE] > 0) == (booted.release == "5.10")


def test_the_walk_afterwards_is_that_at_the_probe(booted):
    walker = KernelWalker(str(booted.vmlinux), None, ModuleCatalog(), 1024)
    for sample, stack in _hits(booted):
        walked = walker.walk(sample, stack)
        assert tuple(frame.pc for frame in walked.frames) == sample.kernel_chain
        assert walked.stop == stack.stop


def test_stacks_of_system_calls_are_whole(booted):
    names = {number for number, place in enumerate(booted.places) if place.function in ("vfs_read", "do_wait")}
    calls = [stack for sample, stack in _hits(booted) if sample.places[0] in names]
    assert len(calls) > 20
    for stack in calls:
        assert stack.stop == StopReason.END_OF_STACK and stack.flags & HitFlag.REACHED_USER


def test_interrupts_are_walked_through(booted):
    """A timer's interrupt in the kernel has a stack of its own, and below it what was interrupted."""
    number = next(n for n, place in enumerate(booted.places) if place.function == "hrtimer_interrupt")
    ticks = [(sample, stack) for sample, stack in _hits(booted) if sample.places[0] == number]
    assert not any(stack.flags & HitFlag.WORDS_LEFT_OUT for _, stack in ticks)
    on_two = [tick for tick in ticks if len({each.address >> 14 for each in tick[1].slices}) > 1]
    assert any(stack.stop == StopReason.END_OF_STACK for _, stack in on_two)
    for sample, stack in on_two:
        # One of the function tracer's own code, which is made at run time, is followed up to there; one of the code
        # that takes a function's return on 5.10 as far as the kernel itself can follow it.
        unknown = stack.stop == StopReason.NO_ROW and stack.oracle[-1] == sample.kernel_chain[-1]
        assert unknown or stack.stop in (StopReason.END_OF_STACK, StopReason.NO_MAPPING)


def test_a_record_is_small(booted):
    """At most a tenth of the 8 KiB that perf copies of a stack, and all that the walk reads again is there."""
    sizes = []
    for record in records_of(booted.run.results / "stacks"):
        if RECORD_HEAD.parse(record).kind == RECORD_KIND_HIT:
            sample = read_hit(memoryview(record)).sample
            # What the kernel's own unwinder says is there for the tests, and a flat copy where nothing is told.
            if booted.places[sample.places[0]].function == "vfs_read" and sample.kernel_stack is not None:
                has_flat = sample.kernel_stack.flags & HitFlag.USER_FLAT
                sizes.append(len(record) - (len(sample.slices[-1].data) if has_flat else 0))
    assert sizes and sum(sizes) / len(sizes) <= 819


def test_the_report_command(booted):
    command = [sys.executable, "-m", "ptap", "report", str(booted.run.results / "reads"), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    traces = [json.loads(line) for line in done.stdout.splitlines()]
    assert {trace["probe"] for trace in traces} == {'kernel.function("vfs_read")'}
    for trace in traces:
        kernel = [frame["function"] for frame in trace["frames"] if frame["space"] == "kernel"]
        assert kernel[0] == "vfs_read" and kernel[-1].startswith("entry_SYSCALL_64")
        assert {frame["space"] for frame in trace["frames"][: len(kernel)]} == {"kernel"}, "the user's come behind"
    assert f"{len(traces)} hits" in done.stderr and " 0 records lost" in done.stderr


class _Kept:
    def __init__(self) -> None:
        self.traces: list[Trace] = []

    def write(self, trace: Trace) -> None:
        self.traces.append(trace)


def test_functions_and_lines(booted):
    """The report names each frame as addr2line does."""
    kept = _Kept()
    report = CaptureReport(booted.run.results / "stacks", str(booted.vmlinux))
    report.write(kept)
    assert report.account.lost == 0 and report.account.traces == len(kept.traces) == len(_hits(booted))
    slide = _hits(booted)[0][1].slide
    wanted = [trace for trace in kept.traces if trace.probe == 'kernel.function("vfs_read")'][:3]
    assert wanted
    pcs, named = [], []
    for trace in wanted:
        physical: list[list[tuple[str | None, int | None]]] = [[]]
        for frame in (each for each in trace.frames if each.space == "kernel"):
            physical[-1].append((frame.function, frame.line))
            if not frame.inlined:
                pcs.append((frame.address - slide - (len(physical) > 1)) % (1 << 64))
                physical.append([])
        named += physical[:-1]
    if booted.release != "6.1":
        assert named[0][-1][0] == "vfs_read"
        return
    command = ["addr2line", "-fie", str(booted.vmlinux), *map(hex, dict.fromkeys(pcs))]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    ours = [call for _, calls in dict(zip(pcs, named, strict=True)).items() for call in calls]
    assert len(lines) == 2 * len(ours)
    for (function, line), name, place in zip(ours, lines[::2], lines[1::2], strict=True):
        file, number = place.split()[0].rsplit(":", 1)
        # In assembly it takes the nearest label for the function.
        assert function == name or (file.endswith(".S") and name.startswith(function or "?"))
        assert line == int(number)
