"""A probe of each kind in running kernels, and stacks through a module that is loaded before and meanwhile."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from kernel.oracle_difference import OPTIMIZED, SAME, TRAMPOLINE, Comparison

from cfi_tables.image_file import open_image
from cfi_tables.layout import StopReason
from ptap.kernel_module.report import CaptureReport
from ptap.probe.point import ProbeKind
from relay_reader.capture import KernelSectionPlaced, KernelStack, Sample
from relay_reader.module_capture import ModuleCapture
from relay_reader.record_layout import HitFlag
from unwind.trace import Trace

_SLEEP = 'kernel.function("schedule_timeout_uninterruptible")'
_SHOWN = 'module("probed").trace("ptap_probed:ptap_probed_shown")'
_TIMES = {"later": 2, "loaded": 1}

_MODULE_SPACE = 0xFFFFFFFFC0000000
"""Where the code of modules begins (Documentation/arch/x86/x86_64/mm.rst)."""


def _seen(booted) -> dict:
    return json.loads((booted.run.results / "kinds.json").read_text())


@cache
def _hits(capture: Path) -> list[tuple[Sample, KernelStack]]:
    hits = [event for event in ModuleCapture(capture).events() if isinstance(event, Sample)]
    return [(sample, sample.kernel_stack) for sample in hits if sample.kernel_stack is not None]


def _capture(booted, name: str) -> Path:
    return booted.run.results / name


def _by_probe(booted, name: str) -> dict[str, list[tuple[Sample, KernelStack]]]:
    found = defaultdict(list)
    for sample, stack in _hits(_capture(booted, name)):
        found[booted.kinds[sample.places[0]].name].append((sample, stack))
    return found


def test_every_kind_is_hit(booted):
    """Those of a module's start only where it was loaded meanwhile; a wildcard's are not all called."""
    wanted = {place.name for place in booted.kinds if not place.point.is_wild and not place.optional}
    initial = {name for name in wanted if "initial_part" in name}
    assert len(initial) == 1 and len(wanted) >= 8
    later = _by_probe(booted, "later")
    assert wanted <= set(later), (booted.package.build, wanted - set(later), _seen(booted)["later"])
    assert any("pipe_re" in name for name in later)
    loaded = set(_by_probe(booted, "loaded"))
    in_module = {name for name in wanted if name.startswith("module")}
    assert in_module - initial <= loaded and not initial & loaded


def test_inlined_copies_are_hit(booted):
    hit = {name for name in _by_probe(booted, "later") if name.endswith(".inline")}
    assert any("folded" in name for name in hit)
    assert booted.system_map is not None or any("do_open" in name for name in hit)


def test_functions_of_a_module_are_hit_as_often_as_they_ran(booted):
    """Each read of its file calls each once, and each load its start."""
    for name, loads in _TIMES.items():
        found = Counter({probe: len(hits) for probe, hits in _by_probe(booted, name).items()})
        reads = 2 * loads
        assert found['module("probed").function("innermost")'] == reads
        assert found['module("probed").function("outer").return'] == reads
        assert found[_SHOWN] == reads
        twice = [count for probe, count in found.items() if 'function("twice' in probe and "inline" not in probe]
        assert twice == [reads, reads]
        assert found[_SLEEP] >= reads
    assert Counter(_by_probe(booted, "later").keys())['module("probed").function("initial_part")'] == 1
    assert len(_by_probe(booted, "later")['module("probed").function("initial_part")']) == _TIMES["later"]


def test_the_place_that_was_meant_is_hit(booted):
    for sample, stack in _hits(_capture(booted, "later")):
        place = booted.kinds[sample.places[0]]
        if place.point.module is None and not place.is_event and place.point.kind is not ProbeKind.RETURN:
            assert stack.registers[16] - stack.slide - place.address in (0, 4), place.name


def _placed(booted, name: str, module: int) -> list[KernelSectionPlaced]:
    """What the capture tells of the sections of one of its modules."""
    events = ModuleCapture(_capture(booted, name)).events()
    return [event for event in events if isinstance(event, KernelSectionPlaced) and event.module == module]


def test_sections_are_where_the_kernel_shows_them(booted):
    """Those told by the collector, and the same code found by symbols."""
    description = ModuleCapture(_capture(booted, "loaded")).description["modules"][0]
    seen = _seen(booted)
    shown = {each["name"]: int(seen["addresses"].get(each["name"], "0"), 16) for each in description["sections"]}
    events = _placed(booted, "loaded", 0)
    assert {description["sections"][each.section]["name"]: each.address for each in events} == {
        name: address for name, address in shown.items() if address
    }
    assert len(events) == seen["placements"] >= 3
    later = _placed(booted, "later", 0)
    placed = Counter(each.section for each in later if each.address)
    gone = Counter(each.section for each in later if not each.address)
    # Every section comes with each load, and goes.
    assert placed == dict.fromkeys(range(len(description["sections"])), _TIMES["later"])
    assert gone == placed


def _chain(sample: Sample, stack: KernelStack) -> tuple[int, ...]:
    """What the kernel's own trace ends with: without the frame of the probe itself, of which it has none."""
    whole = stack.flags & (HitFlag.RETURN_PROBE | HitFlag.CALLED)
    return sample.kernel_chain if whole else sample.kernel_chain[1:]


def test_stacks_are_the_kernels_own(booted):
    """Each kind's, from the caller of what was hit on; a timer's own trace begins in the interrupt."""
    comparison = Comparison(open_image(booted.vmlinux), booted.name_at, frozenset())
    compared = defaultdict(Counter)
    for name in ("later", "loaded"):
        for sample, stack in _hits(_capture(booted, name)):
            kind = booted.kinds[sample.places[0]].point.kind
            if booted.release == "5.10" and booted.name_at(stack.oracle[-1] - stack.slide) == "kretprobe_trampoline":
                # What is behind the trampoline was called from the module, whose code is in no file here.
                compared[kind][TRAMPOLINE] += 1
                continue
            compared[kind][comparison.difference(stack, _chain(sample, stack))] += 1
    for kind in (ProbeKind.TIMER, ProbeKind.TRACEPOINT, ProbeKind.FUNCTION):
        known = compared[kind][SAME] + compared[kind][OPTIMIZED] + compared[kind][TRAMPOLINE]
        assert compared[kind][SAME] and known > 0.8 * compared[kind].total(), (kind, compared)
    assert booted.release == "5.10" or compared[ProbeKind.RETURN] == {SAME: 6}


def test_stacks_go_through_the_module(booted):
    """From the kernel's function that its code calls, to the entry of the system call."""
    for name in ("later", "loaded"):
        names = {number for number, place in enumerate(booted.kinds) if place.name == _SLEEP}
        hits = [(s, k) for s, k in _hits(_capture(booted, name)) if s.places[0] in names]
        assert len(hits) >= 2
        assert all(k.stop == StopReason.END_OF_STACK and k.flags & HitFlag.REACHED_USER for _, k in hits)


def test_a_modules_tracepoint_is_in_the_modules_code(booted):
    for name in ("later", "loaded"):
        traces = [trace for trace in _traces(booted, name) if trace.probe == _SHOWN]
        assert len(traces) == 2 * _TIMES[name]
        for trace in traces:
            functions = [frame.function for frame in trace.frames if frame.space == "kernel" and not frame.inlined]
            assert functions[0] == "show" and functions[-1].startswith("entry_SYSCALL_64"), functions
            assert trace.frames[0].module == "probed"


def test_stacks_go_through_our_own_module(booted):
    """While it is told to probe, and sets probes in a module that comes, it calls the kernel, and is interrupted."""
    (_, own) = ModuleCapture(_capture(booted, "later")).description["modules"]
    assert (own["name"], own["problem"]) == ("ptap_kernel", None)
    # A kernel that checks itself has a section of constructors, too.
    (number,) = (number for number, each in enumerate(own["sections"]) if each["name"] == ".text")
    (placed,) = (event for event in _placed(booted, "later", 1) if event.section == number)
    section = own["sections"][number]
    code = range(placed.address, placed.address + section["end"] - section["start"])
    hits = _hits(_capture(booted, "later"))
    through = [stack for sample, stack in hits if any(pc in code for pc in _chain(sample, stack))]
    assert through and all(
        # What the session does not name, such as the guest's drivers, may have called what is probed.
        stack.stop == StopReason.END_OF_STACK
        or (stack.stop == StopReason.NO_MAPPING and stack.stop_detail >= _MODULE_SPACE)
        for stack in through
    )
    assert not any(stack.stop == StopReason.NO_MAPPING and stack.stop_detail in code for _, stack in hits)
    frames = [frame for t in _traces(booted, "later") for frame in t.frames if frame.module == "ptap_kernel"]
    listed = subprocess.run(["nm", own["file"]], capture_output=True, text=True, check=True).stdout
    functions = set(re.findall(r" [tT] (\S+)$", listed, re.MULTILINE))
    assert len(frames) >= len(through) and {frame.function for frame in frames} <= functions


def test_samples_of_user_code_have_no_frame_of_the_kernel(booted):
    number = next(n for n, place in enumerate(booted.kinds) if place.point.kind is ProbeKind.TIMER)
    events = ModuleCapture(_capture(booted, "later")).events()
    ticks = [event for event in events if isinstance(event, Sample) and event.places[0] == number]
    in_user = [tick for tick in ticks if not tick.kernel_chain]
    assert 0 < len(in_user) < len(ticks)
    for tick in in_user:
        assert tick.kernel_stack is None and tick.user_stack is not None and tick.registers[16] >> 63 == 0
    assert all(tick.kernel_chain[0] >> 63 for tick in ticks if tick.kernel_chain)


class _Kept:
    def __init__(self) -> None:
        self.traces: list[Trace] = []

    def write(self, trace: Trace) -> None:
        self.traces.append(trace)


def _traces(booted, name: str) -> Iterator[Trace]:
    kept = _Kept()
    CaptureReport(_capture(booted, name), str(booted.vmlinux)).write(kept)
    yield from kept.traces


def test_functions_of_the_module_have_names_and_lines(booted):
    for name in ("later", "loaded"):
        wanted = [trace for trace in _traces(booted, name) if trace.probe == _SLEEP]
        through = [t for t in wanted if "outer" in [frame.function for frame in t.frames]]
        assert len(through) == 2 * _TIMES[name]
        for trace in through:
            frames = [(frame.function, frame.line) for frame in trace.frames if frame.module == "probed"]
            assert [function for function, _ in frames] == ["innermost", "outer", "show"]
            assert [_call_at(line) for _, line in frames] == ["schedule_timeout_uninterruptible", "innermost", "outer"]
            assert {frame.module for frame in trace.frames if frame.space == "kernel"} == {"probed", "[kernel]"}


def _call_at(line: int | None) -> str:
    """Which of the functions is called at that line of the module's source."""
    assert line is not None
    text = (Path(__file__).parent / "ptap_probed.c").read_text().splitlines()[line - 1]
    return next(n for n in ("schedule_timeout_uninterruptible", "innermost", "outer") if f"{n}(" in text)


def test_the_walk_afterwards_is_that_at_the_probe(booted):
    for name in ("later", "loaded"):
        traces = [trace for trace in _traces(booted, name) if any(frame.space == "kernel" for frame in trace.frames)]
        hits = _hits(_capture(booted, name))
        assert len(traces) == len(hits)
        for trace, (sample, stack) in zip(traces, hits, strict=True):
            kernel = [frame for frame in trace.frames if frame.space == "kernel"]
            addresses = tuple(frame.address for frame in kernel if not frame.inlined)
            assert addresses == sample.kernel_chain, (trace.probe, StopReason(stack.stop))


def test_a_predicate_on_functions_of_a_module_is_decided_afterwards(booted):
    """What goes through a module is recorded as undecided; the report keeps the calls that are meant, and no other."""
    assert _seen(booted)["in module"][0] == 0
    hits = [stack for _, stack in _hits(_capture(booted, "in-module"))]
    # One of the module's start, and one of each read of its file.
    assert len(hits) >= 3 and all(stack.flags & HitFlag.UNDECIDED for stack in hits)
    kept = _Kept()
    report = CaptureReport(_capture(booted, "in-module"), str(booted.vmlinux))
    report.write(kept)
    callers = [[frame.function for frame in trace.frames if frame.module == "probed"] for trace in kept.traces]
    assert callers == [["innermost", "outer", "show"]] * 2
    assert (report.account.lost, report.account.unwanted) == (0, report.account.hits - 2)


def test_refusals(booted):
    seen = _seen(booted)
    assert "no tracepoint sys_never" in seen["no tracepoint"]
    assert "an unknown kind" in seen["no frequency"]
    assert "module 7" in seen["no module"]
    told = "\n".join(seen["other build"])
    assert "module probed sections 0 of" in told and "another build is loaded" in told
    for number, place in enumerate(booted.kinds):
        # A tracepoint is found by its name, wherever it lies.
        if place.point.module and not place.is_event:
            assert f"probe {number} {place.symbol}" in told
            (line,) = (each for each in seen["other build"] if each.startswith(f"probe {number} "))
            assert "refused with error -18" in line


def test_what_was_told(booted):
    status, told = _seen(booted)["later"]
    assert status == 0
    assert any(line.startswith("probe 0 ") and "on 2 of 2 processors" in line for line in told)


def test_the_modules_of_the_tests_were_built_apart(booted):
    """Functions have sections of their own, and those of one name lie in one; newer kernels join them in the end."""
    file = Path(ModuleCapture(_capture(booted, "loaded")).description["modules"][0]["file"])
    assert {".text.outer", ".text.hot_part"} <= _sections(file.with_name("ptap_probed.o")) >= {".init.text"}
    apart = {name for name in _sections(file) if name.startswith(".text.")}
    assert ".init.text" in _sections(file) and (not apart if booted.release == "7.x" else ".text.outer" in apart)


def _sections(file: Path) -> set[str]:
    listed = subprocess.run(["readelf", "-SW", str(file)], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"\] (\S+) ", listed))
