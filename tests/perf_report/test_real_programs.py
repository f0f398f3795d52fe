"""Stacks of recorded programs, each sample of each process: what walking by the book finds, and where it ends."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from oracles import book_walker
from oracles.book_walker import Area, StackCopy
from perf_report.recordings import perf_record, report

from cfi_tables.layout import StopReason
from relay_reader.capture import Event, MappingAdded, ProcessExeced, ProcessForked, Sample
from relay_reader.perf_data import read_perf_data
from unwind.trace import Trace

SOURCE = """#include <map>
#include <string>
int main() { std::map<int, std::string> m; m[1] = "a"; return m.size(); }
"""
QUERY = (
    "WITH RECURSIVE c(x) AS (VALUES(1) UNION ALL SELECT x + 1 FROM c WHERE x < 40000) "
    "SELECT count(DISTINCT x % 9973 || 'a'), group_concat(x) IS NULL FROM c;"
)
SCRIPT = """import json, re
d = json.loads(json.dumps([{str(n): [n] * 50} for n in range(3000)]))
re.compile('(a|b)+').match('ab' * 200)
"""
_NO_REGISTERS = "no registers"
EXPECTED = {
    _NO_REGISTERS: {StopReason.NO_REGISTERS},
    book_walker.END: {StopReason.END_OF_STACK},
    book_walker.CUT: {StopReason.STACK_CUT},
    book_walker.NO_CODE: {StopReason.NO_MAPPING},
    # The dynamic linker's entry has no rules, and is an end all the same.
    book_walker.NO_RULE: {StopReason.NO_ROW, StopReason.NO_TABLE, StopReason.END_OF_STACK},
    book_walker.NO_MEMORY: {StopReason.MEMORY_NOT_CAPTURED},
    book_walker.UNKNOWN: {StopReason.UNKNOWN_REGISTER},
}


def commands(folder: Path) -> dict[str, tuple[list[str], str, int]]:
    """By name: the command, the program that does the work, and every how many page faults."""
    chosen = random.Random(5)
    words = [bytes(chosen.choices(b"abcdefgh", k=6)) for _ in range(40_000)]
    (folder / "first").write_bytes(b"\n".join(words))
    chosen.shuffle(words)
    (folder / "second").write_bytes(b"\n".join(words))
    (folder / "source.cc").write_text(SOURCE)
    (folder / "work.py").write_text(SCRIPT)
    return {
        "cc1plus": (["g++", "-fsyntax-only", str(folder / "source.cc")], "cc1plus", 150),
        "git": (["sh", "-c", f"git diff --no-index --stat {folder / 'first'} {folder / 'second'}; true"], "git", 20),
        "python": (["/usr/bin/python3", str(folder / "work.py")], "python3", 30),
        "sqlite3": (["sh", "-c", f'sqlite3 :memory: "{QUERY}"; true'], "sqlite3", 10),
        "xz": (["sh", "-c", f"xz -1 -k -c {folder / 'first'} > /dev/null; true"], "xz", 10),
    }


def by_the_book(events: list[Event], vdso: bytes) -> list[tuple[Sample, list[int], str]]:
    """The samples of a recording with the stacks that the book finds."""
    areas: dict[int, list[Area]] = {}
    found = []
    for event in events:
        if isinstance(event, ProcessExeced):
            areas[event.pid] = []
        elif isinstance(event, ProcessForked) and event.pid != event.parent_pid:
            areas[event.pid] = list(areas.get(event.parent_pid, [])) if event.inherits else []
        elif isinstance(event, MappingAdded):
            new = Area(event.mapping.start, event.mapping.end, event.mapping.file_offset, event.mapping.path)
            # The newest counts first.
            areas.setdefault(event.pid, []).insert(0, new)
        elif isinstance(event, Sample):
            if not event.registers:  # the kernel builds the stack of a new program
                found.append((event, [], _NO_REGISTERS))
                continue
            copies = [StackCopy(piece.address, piece.data, piece.cut) for piece in event.slices]
            copy = copies[0] if copies else StackCopy(0, b"", cut=False)
            found.append((event, *book_walker.walk(event.registers, copy, areas.get(event.pid, []), vdso)))
    return found


def user_addresses(trace: Trace) -> list[int]:
    return [frame.address for frame in trace.frames if frame.space == "user" and not frame.inlined]


def own_vdso() -> bytes:
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("[vdso]"):
            start, end = (int(each, 16) for each in line.split()[0].split("-"))
            with open("/proc/self/mem", "rb", buffering=0) as memory:
                memory.seek(start)
                return memory.read(end - start)
    return b""


@pytest.mark.parametrize("name", ["cc1plus", "git", "python", "sqlite3", "xz"])
def test_every_stack_is_that_of_the_book(name: str, tmp_path: Path, require_tool: Callable[[str, str], str]) -> None:
    command, program, every = commands(tmp_path)[name]
    for tool, package in (("perf", "linux-perf"), (Path(command[0]).name, command[0]), (program, program)):
        if tool != "cc1plus":
            require_tool(tool, package)
    path = perf_record(tmp_path / "perf.data", command, "--call-graph", "dwarf,16384", every=every)
    expected = by_the_book(list(read_perf_data(path)), own_vdso())
    found = report(path)
    assert len(found.traces) == len(expected)
    assert program in {trace.comm for trace in found.traces}
    for trace, (sample, pcs, reason) in zip(found.traces, expected, strict=True):
        assert (trace.pid, trace.tid, trace.time_ns) == (sample.pid, sample.tid, sample.time_ns)
        assert user_addresses(trace) == pcs, (trace.comm, trace.stop, reason)
        assert trace.stop in EXPECTED[reason]
        assert (trace.stop is StopReason.END_OF_STACK) == (trace.stop_text is None)
