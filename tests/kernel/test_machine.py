"""What else goes on in a machine while a session runs: processors go and come, other tracers replace addresses."""

from __future__ import annotations

import json

from cfi_tables.layout import StopReason
from ptap.kernel_module.report import CaptureReport
from relay_reader.capture import KernelStack, Sample
from relay_reader.module_capture import ModuleCapture
from unwind.kernel.kernel_walk import KernelWalker
from unwind.module import ModuleCatalog
from unwind.trace import Trace

_READS = 20


def _seen(booted) -> dict:
    return json.loads((booted.run.results / "machine.json").read_text())


def test_a_timer_follows_processors(booted):
    """One that comes has ticks from then on, one that goes has no more, and does not take the others' with it."""
    alone, *states = _seen(booted)["hotplug"]["counts"]
    assert alone[0] > 0 == alone[1]
    came, both, gone, one, again, at_last = states
    assert both[1] > came[1]
    assert one[0] > gone[0] and one[1] == gone[1]
    assert at_last[1] > again[1] >= one[1]


def test_a_processor_that_went_was_sampled(booted):
    (line,) = (each for each in _seen(booted)["hotplug"]["told"] if each.startswith("probe 0 "))
    assert line.endswith(" on 2 of 2 processors")


def _reads(booted) -> list[tuple[Sample, KernelStack]]:
    """Of the program that reads beside the other tracer's probe."""
    capture = ModuleCapture(booted.run.results / "returning")
    samples = [event for event in capture.events() if isinstance(event, Sample)]
    found = [(sample, sample.kernel_stack) for sample in samples if sample.kernel_stack is not None]
    names = [booted.name_at(sample.kernel_chain[1] - stack.slide) for sample, stack in found]
    # Other ways to read are not probed.
    return [each for each, name in zip(found, names, strict=True) if name == "ksys_read"]


def test_a_stack_with_another_tracers_return_probe(booted):
    """Newer kernels tell what every return probe has replaced; of older ones' the walk says that it ends there."""
    reads = _reads(booted)
    assert len(reads) >= _READS
    walker = KernelWalker(str(booted.vmlinux), None, ModuleCatalog(), 1024)
    for sample, stack in reads:
        names = [booted.name_at(pc - stack.slide) for pc in sample.kernel_chain]
        if booted.release == "5.10":
            assert (names, stack.stop) == (["vfs_read", "ksys_read"], StopReason.RETURN_TRAMPOLINE)
            assert booted.name_at(stack.stop_detail - stack.slide) == "kretprobe_trampoline"
        else:
            assert names[:3] == ["vfs_read", "ksys_read", "do_syscall_64"] and len(names) == 4
            assert stack.stop == StopReason.END_OF_STACK
        walked = walker.walk(sample, stack)
        assert tuple(frame.pc for frame in walked.frames) == sample.kernel_chain
        assert (walked.stop, walked.detail) == (stack.stop, stack.stop_detail)


class _Kept:
    def __init__(self) -> None:
        self.traces: list[Trace] = []

    def write(self, trace: Trace) -> None:
        self.traces.append(trace)


def test_the_report_tells_of_another_tracers_return_probe(booted):
    kept = _Kept()
    CaptureReport(booted.run.results / "returning", str(booted.vmlinux)).write(kept)
    texts = {str(trace.stop_text) for trace in kept.traces if trace.stop is StopReason.RETURN_TRAMPOLINE}
    assert any("another tracer's return probe" in text for text in texts) == (booted.release == "5.10")
