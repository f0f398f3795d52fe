"""Profiles of perf.data by columns: each report is the one that comes of a trace for every sample, byte for byte."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from perf_report.recordings import Reported, perf_record, report

from ptap import perf_report
from ptap.capture_report import ReportOptions
from ptap.cli.report_format import COLUMNS, FORMATS, STREAMED, finish, open_report
from ptap.perf_report import PerfReport
from ptap.profile.profile_report import ProfileReport
from ptap.report.trace_filter import FilteredReport, TraceFilter
from unwind.column_frames import ColumnFrames, OtherWalkError
from unwind.trace_builder import ArgumentFrames, TraceBuilder

_PROFILES = [form for form in FORMATS if form not in (*STREAMED, *COLUMNS)]
_PROGRAM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#define PAGE 4096
static __thread char *fresh;
static inline __attribute__((always_inline)) void touch(void) { *(volatile char *)fresh = 1; fresh += PAGE; }
__attribute__((noipa)) static void down(int n) {
    volatile char room[64];
    room[0] = n;
    if (n) down(n - 1);
    touch();
}
static void handler(int number) { down(number % 4); }
void quiet(void (*call)(int), int n);
static void *work(void *unused) {
    (void)unused;
    fresh = mmap(0, 200 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(fresh, 200 * PAGE, MADV_NOHUGEPAGE);
    for (int i = 0; i < 9; i++) down(i);
    for (int i = 0; i < 4; i++) quiet(down, i);
    raise(SIGUSR1);
    int zero = open("/dev/zero", O_RDONLY);
    for (int i = 0; i < 5; i++) { (void)!read(zero, fresh, PAGE); fresh += PAGE; }
    unsigned char store_and_return[] = {0xc6, 0x07, 0x01, 0xc3};
    void *made = mmap(0, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(made, store_and_return, sizeof store_and_return);
    for (int i = 0; i < 4; i++, fresh += PAGE) ((void (*)(char *))made)(fresh);
    return 0;
}
int main(int count, char **words) {
    signal(SIGUSR1, handler);
    work(0);
    if (count > 1) { execl(words[0], words[0], (char *)0); return 1; }
    pthread_t thread;
    pthread_create(&thread, 0, work, 0);
    pthread_join(thread, 0);
    prctl(PR_SET_NAME, "renamed");
    work(0);
    if (!fork()) { work(0); _exit(0); }
    wait(0);
    return 0;
}
"""

_WITHOUT_LINES = "void quiet(void (*call)(int), int n) { call(n); call(n); }"


class Shown(NamedTuple):
    """One report."""

    content: bytes
    left_out: int


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]) -> Path:
    """Page faults of threads, processes and programs, in signal handlers, code made at run time, and the kernel."""
    require_tool("perf", "linux-perf")
    folder = tmp_path_factory.mktemp("columns")
    (folder / "faults.c").write_text(_PROGRAM)
    gcc = require_tool("gcc", "gcc")
    (folder / "quiet.c").write_text(_WITHOUT_LINES)
    subprocess.run([gcc, "-O2", "-shared", "-fPIC", "-o", "libquiet.so", "quiet.c"], cwd=folder, check=True)
    program = ["-o", "faults", "faults.c", "libquiet.so", f"-Wl,-rpath,{folder}"]
    subprocess.run([gcc, "-O2", "-g", "-pthread", *program], cwd=folder, check=True)
    return perf_record(
        folder / "faults.data", [folder / "faults", "first"], "-e", "page-faults:k", "-c", "1",
        "--sample-cpu", "-m", "16M", "--call-graph", "dwarf,16384", every=1,
    )  # fmt: skip


def shown(write: Callable[[FilteredReport], None], form: str, wanted: TraceFilter) -> Shown:
    """The report in one form of what `write` gives."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape", newline="")
    opened = open_report(form, stream, title="test")
    filtered = FilteredReport(opened, wanted)
    write(filtered)
    finish(opened)
    stream.flush()
    return Shown(stream.buffer.getvalue(), filtered.left_out)  # type: ignore[attr-defined]


def by_columns(path: Path, form: str, wanted: TraceFilter, **options: object) -> Shown:
    """The report that the command makes, which is to come of columns."""

    def write(filtered: FilteredReport) -> None:
        session = PerfReport(str(path), ReportOptions(arguments=ArgumentFrames.NONE, **options))  # type: ignore[arg-type]
        session.write(filtered)
        session.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TraceBuilder, "build", None)
        return shown(write, form, wanted)


def by_traces(reported: Reported, form: str, wanted: TraceFilter) -> Shown:
    """The report of traces."""

    def write(filtered: FilteredReport) -> None:
        for trace in reported.traces:
            filtered.write(trace)

    return shown(write, form, wanted)


@pytest.fixture(scope="module")
def expected(recording: Path) -> Reported:
    """A trace for each sample."""
    return report(recording)


@pytest.mark.parametrize("form", _PROFILES)
def test_each_form_is_that_of_the_traces(recording: Path, expected: Reported, form: str) -> None:
    found = by_columns(recording, form, TraceFilter())
    assert found == by_traces(expected, form, TraceFilter())
    assert found.content


def test_the_recording_has_what_could_differ(recording: Path) -> None:
    text = by_columns(recording, "folded", TraceFilter()).content.decode()
    for part in ("renamed;", "__restore_rt;down;", "touch", "[cut short: no table];", "[anon]", "faults;"):
        assert part in text, part
    assert "read" in text


def test_what_is_said_at_the_end_is_the_same(recording: Path, expected: Reported) -> None:
    assert any("libquiet.so (" in line for line in expected.lines)
    for wanted in (TraceFilter(), TraceFilter(comms=("renamed",))):
        session = PerfReport(str(recording), ReportOptions(arguments=ArgumentFrames.NONE))
        session.write(FilteredReport(ProfileReport(lambda profile: None), wanted))
        # Modules of which equally many frames lack lines may be told in any order.
        assert sorted(session.closing_lines()) == sorted(expected.lines)
        session.close()


_FILTERS = {
    "a name": TraceFilter(comms=("ren*",)),
    "a process that is not there": TraceFilter(pids=(1,)),
    "a processor": TraceFilter(cpus=(0,)),
    "a time": TraceFilter(begin_s=0.002),
    "an end": TraceFilter(end_s=0.002),
    "a function": TraceFilter(functions=("__restore_rt",)),
    "a module": TraceFilter(modules=("libc.so*",)),
    "hidden frames": TraceFilter(hide=("down", "main")),
    "some frames": TraceFilter(only=("touch",)),
    "hidden whole stacks": TraceFilter(hide=("*",)),
    "no inlined calls": TraceFilter(inlined=False),
    "recursion merged": TraceFilter(merge_recursion=True, comms=("renamed",)),
}


@pytest.mark.parametrize("name", _FILTERS)
def test_filters_choose_what_they_choose_of_traces(recording: Path, expected: Reported, name: str) -> None:
    wanted = _FILTERS[name]
    assert by_columns(recording, "firefox", wanted) == by_traces(expected, "firefox", wanted)


def test_one_thread_of_many(recording: Path, expected: Reported) -> None:
    whose = {(trace.pid, trace.tid) for trace in expected.traces}
    assert len(whose) >= 3
    for pid, tid in whose:
        wanted = TraceFilter(pids=(pid,), tids=(tid,))
        found = by_columns(recording, "firefox", wanted)
        assert found == by_traces(expected, "firefox", wanted)
        assert {(each["pid"], each["tid"]) for each in json.loads(found.content)["threads"]} == {(str(pid), tid)}


def test_depth_is_limited_alike(recording: Path) -> None:
    limited = report(recording, max_depth=4)
    found = by_columns(recording, "folded", TraceFilter(), max_depth=4)
    assert found == by_traces(limited, "folded", TraceFilter())
    assert b"[cut short: too deep]" in found.content


def test_what_columns_do_not_know_comes_of_traces(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample of a guest in the middle of a file: all is read once more."""
    before = by_columns(recording, "folded", TraceFilter())

    def refuse(*_: object) -> None:
        raise OtherWalkError

    monkeypatch.setattr(ColumnFrames, "stops", refuse)
    session = PerfReport(str(recording), ReportOptions(arguments=ArgumentFrames.NONE))
    found = shown(session.write, "folded", TraceFilter())
    session.close()
    assert found == before


def test_code_that_a_map_names_comes_of_traces(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns put processes together, and each may have other code at an address."""
    asked = []
    monkeypatch.setattr(perf_report, "some_left_a_map", lambda _, pids: asked.append(pids) or True)
    with pytest.raises(TypeError):  # for `by_columns` there is nothing that makes traces
        by_columns(recording, "folded", TraceFilter())
    assert asked and asked[0]
