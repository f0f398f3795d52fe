"""Places where a breakpoint already is: a uprobe, which takes the hits, or an int3 of the program itself."""

import os
import subprocess

import pytest

from ptap.backend.live_capture import CaptureLimits, PlaceKind, Target
from ptap.backend.perf_events.availability import available
from ptap.backend.perf_events.capture import PerfCapture
from ptap.backend.ptrace.capture import PtraceCapture
from relay_reader.capture import Sample

ENTRY, RETURN = PlaceKind.ENTRY, PlaceKind.RETURN

CALLER = r"""
#include <signal.h>
#include <stdio.h>
static volatile int traps;
static void on_trap(int s) { (void)s; traps++; }
__attribute__((noinline, noclone)) void probed(void) { __asm__ volatile(""); }
__attribute__((noinline, noclone)) void other(void) { __asm__ volatile("nop"); }
void trapping(void);
void jumping(void);
__asm__(".globl trapping\n.type trapping, @function\ntrapping: int3\nret\n.size trapping, .-trapping");
__asm__(".globl jumping\n.type jumping, @function\njumping: nop\njmp landing\n.size jumping, .-jumping");
__asm__(".globl landing\n.type landing, @function\nlanding: nop\nret\n.size landing, .-landing");
int main(void) {
    signal(SIGTRAP, on_trap);
    puts("ready"); fflush(stdout);
    getchar();
    for (int i = 0; i < 5; i++) { probed(); other(); trapping(); jumping(); }
    printf("%d traps\n", traps);
    return 0;
}
"""


@pytest.fixture
def caller(compile_c):
    program = compile_c("caller", CALLER)
    process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    yield program, process
    process.kill()
    process.communicate()


def trace_to_the_end(process, places):
    tracer = PtraceCapture(Target(pids=(process.pid,)), places, CaptureLimits(4096))
    tracer.start()
    process.stdin.write("\n")
    process.stdin.flush()
    hits = [place for event in tracer.events() if isinstance(event, Sample) for place in event.places]
    tracer.close()
    return tracer, hits


@pytest.mark.parametrize("kind", [ENTRY, RETURN])
def test_a_uprobe_that_was_there_first_is_told(caller, place, alarm, kind):
    why = available()
    if why is not None:
        pytest.skip(f"perf events do not work here: {why}")
    program, process = caller
    uprobe = PerfCapture(Target(pids=(process.pid,)), [place(program, "probed", kind)], CaptureLimits(4096))
    uprobe.start()
    try:
        tracer, hits = trace_to_the_end(process, [place(program, "probed", kind), place(program, "other")])
    finally:
        uprobe.stop()
        missed = sum(isinstance(event, Sample) for event in uprobe.events())
        uprobe.close()
    assert process.stdout.readline() == "5 traps\n"
    assert missed == 5
    assert hits == [1] * 5
    told = tracer.shortcomings()
    offset = place(program, "probed").file_offset
    assert len(told) == 1
    assert f"{os.path.realpath(program)}+{offset:#x}: a breakpoint of somebody else was already there" in told[0]


def test_an_int3_of_the_program_itself_is_nobody_elses(caller, place, alarm):
    program, process = caller
    tracer, hits = trace_to_the_end(process, [place(program, "trapping"), place(program, "other")])
    assert process.stdout.readline() == "5 traps\n"
    assert hits.count(0) == hits.count(1) == 5
    assert tracer.shortcomings() == []


def test_a_return_to_the_kernels_trampoline_is_counted_as_not_watched(caller, place, alarm):
    """A uretprobe on a function that jumps to ours replaces the address that ours returns to."""
    why = available()
    if why is not None:
        pytest.skip(f"perf events do not work here: {why}")
    program, process = caller
    uprobe = PerfCapture(Target(pids=(process.pid,)), [place(program, "jumping", RETURN)], CaptureLimits(4096))
    uprobe.start()
    try:
        tracer, hits = trace_to_the_end(process, [place(program, "landing", k) for k in (ENTRY, RETURN)])
    finally:
        uprobe.stop()
        returns = sum(isinstance(event, Sample) for event in uprobe.events())
        uprobe.close()
    assert process.stdout.readline() == "5 traps\n"
    assert returns == 5
    assert hits == [0] * 5
    assert tracer.unwatched_returns == 5
    assert [line.split(" whose")[0] for line in tracer.shortcomings()] == ["5 calls"]
