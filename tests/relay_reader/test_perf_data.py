"""perf.data files: what is read is what perf itself prints of them."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from relay_reader.capture import (
    KERNEL_PID,
    MappingAdded,
    ProcessExeced,
    ProcessForked,
    RecordsLost,
    Sample,
    ThreadExited,
    ThreadNamed,
)
from relay_reader.capture_kind import CaptureKind, kind_of_file
from relay_reader.perf_columns import fits_columns
from relay_reader.perf_data import FileFault, PerfData, read_perf_data
from unwind.address_space import AddressSpaces

MACHINES_OWN = {FileFault.LATE_RECORD}
"""Where the clocks of CPUs differ, perf's own rounds come out of order."""
PROGRAM = r"""
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
volatile long n;
__attribute__((noinline)) void spin(void) {
    struct timespec t;
    do { n++; clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); } while (t.tv_nsec < 60000000);
}
static void *run(void *x) { spin(); return x; }
int main(void) {
    pthread_t ids[2];
    for (int i = 0; i < 2; i++) pthread_create(&ids[i], 0, run, 0);
    for (int i = 0; i < 2; i++) pthread_join(ids[i], 0);
    if (!fork()) { spin(); exit(0); }
    wait(0);
    return 0;
}
"""


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """record(name, *options) → a perf.data file of a program with threads and a child."""
    if shutil.which("perf") is None:
        pytest.skip("perf is not installed (Debian: apt install linux-perf)")
    folder = tmp_path_factory.mktemp("perf_data")
    (folder / "spin.c").write_text(PROGRAM)
    subprocess.run(["gcc", "-O2", "-pthread", "-o", folder / "spin", folder / "spin.c"], check=True)

    def run(name: str, *options: str) -> Path:
        path = folder / name
        done = subprocess.run(
            ["perf", "record", "-qN", "-o", path, *options, folder / "spin"], capture_output=True, text=True
        )
        if not path.exists():
            pytest.skip(f"perf record does not work here: {done.stderr.strip()}")
        return path

    return run


@pytest.fixture(scope="module")
def dwarf_file(record: Callable[..., Path]) -> Path:
    return record("dwarf.data", "--call-graph", "dwarf,8192", "-e", "cpu-clock", "-F", "997")


def perf_script(path: Path, *options: str) -> str:
    command = ["perf", "script", "-i", path, "--ns", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def nanoseconds(seconds: str) -> int:
    whole, _, part = seconds.rstrip(":").partition(".")
    return int(whole) * 10**9 + int(part)


def script_samples(path: Path) -> list[tuple[int, int, int]]:
    # "PID/TID SECONDS.NANOSECONDS:" a line.
    lines = perf_script(path, "-F", "pid,tid,time").split("\n")
    rows = [line.split() for line in lines if line.strip()]
    return [(int(ids.split("/")[0]), int(ids.split("/")[1]), nanoseconds(time)) for ids, time, *_ in rows]


def test_samples_are_those_of_perf_script(dwarf_file: Path) -> None:
    found = [event for event in read_perf_data(dwarf_file) if isinstance(event, Sample)]
    expected = script_samples(dwarf_file)
    assert len(expected) > 100
    assert sorted((hit.pid, hit.tid, hit.time_ns) for hit in found) == sorted(expected)
    assert len({hit.pid for hit in found}) == 2
    assert len({hit.tid for hit in found}) >= 4 - 1


def test_registers_and_stack_are_those_of_perf_script(dwarf_file: Path) -> None:
    # "ABI:2 AX:0x… BX:0x… …" a sample.
    lines = [line for line in perf_script(dwarf_file, "-F", "uregs").split("\n") if "IP:" in line]
    names = ["AX", "DX", "CX", "BX", "SI", "DI", "BP", "SP", *(f"R{n}" for n in range(8, 16)), "IP"]
    expected = []
    for line in lines:
        values = dict(field.split(":") for field in line.split() if ":" in field)
        expected.append(tuple(int(values[name], 16) for name in names))
    found = [event for event in read_perf_data(dwarf_file) if isinstance(event, Sample)]
    assert [hit.registers for hit in found] == expected
    for hit in found:
        assert hit.slices[0].address == hit.registers[7]
        assert hit.slices[0].cut == (len(hit.slices[0].data) == 8192)


def test_kernel_chains_are_those_of_perf_script(record: Callable[..., Path]) -> None:
    path = record("kernel.data", "-g", "-e", "cpu-clock", "-F", "997")
    found = [event for event in read_perf_data(path) if isinstance(event, Sample)]
    chains: list[tuple[int, ...]] = []
    for block in perf_script(path, "-F", "ip,pid").split("\n\n"):
        addresses = [int(line.split()[0], 16) for line in block.split("\n")[1:] if line.strip()]
        chains.append(tuple(address for address in addresses if address >> 63))
    chains = chains[: len(found)]
    assert sum(map(bool, chains)) > 20
    assert [hit.kernel_chain for hit in found] == chains


def test_side_band_events_are_those_of_perf_script(dwarf_file: Path) -> None:
    text = perf_script(dwarf_file, "--show-mmap-events", "--show-task-events", "-F", "comm,pid,tid,time,event")
    events = list(read_perf_data(dwarf_file))
    kinds = (
        ("PERF_RECORD_FORK", ProcessForked),
        ("PERF_RECORD_EXIT", ThreadExited),
        ("PERF_RECORD_COMM exec", ProcessExeced),
        ("PERF_RECORD_COMM:", ThreadNamed),
    )
    for name, kind in kinds:
        assert text.count(name) == sum(isinstance(event, kind) for event in events), name
    # "PERF_RECORD_MMAP2 PID/TID: [0xSTART(0xSIZE) @ OFFSET …]: r-xp PATH"
    mapped = set()
    for line in text.split("\n"):
        if "PERF_RECORD_MMAP" in line and (" -1/" in line or line.split()[-2][2] == "x"):
            start, _, size = line.partition("[0x")[2].partition(")")[0].partition("(0x")
            mapped.add((" -1/" in line, int(start, 16), int(size, 16), line.split()[-1]))
    assert mapped
    assert mapped == {
        (event.pid == KERNEL_PID, event.mapping.start, event.mapping.end - event.mapping.start, event.mapping.path)
        for event in events
        if isinstance(event, MappingAdded)
    }


def test_several_events_are_told_apart_by_their_ids(record: Callable[..., Path]) -> None:
    path = record("two.data", "--call-graph", "dwarf,1024", "-e", "cpu-clock/freq=500/,task-clock/freq=300/")
    file = PerfData(path)
    try:
        found = [event for event in file.events() if isinstance(event, Sample)]
    finally:
        file.close()
    assert set(file.faults) <= MACHINES_OWN
    assert sorted((hit.pid, hit.tid, hit.time_ns) for hit in found) == sorted(script_samples(path))


def test_events_come_in_time_order(dwarf_file: Path) -> None:
    times = [event.time_ns for event in read_perf_data(dwarf_file)]
    assert times == sorted(times)


def perf_has(feature: str) -> bool:
    shown = subprocess.run(["perf", "version", "--build-options"], capture_output=True, text=True, check=True).stdout
    return f"{feature}: [ on" in shown


def script_chains(path: Path) -> list[list[int]]:
    """The addresses of each sample, innermost first."""
    blocks = perf_script(path, "-F", "ip,pid").split("\n\n")
    return [[int(line.split()[0], 16) for line in block.split("\n")[1:] if line.strip()] for block in blocks[:-1]]


def whole_chains(path: Path) -> list[list[int]]:
    """The same of ours: perf shows a user's address by where it lies in its file."""
    spaces = AddressSpaces()
    chains = []
    for event in read_perf_data(path):
        if not isinstance(event, Sample):
            spaces.apply(event)
            continue
        told = event.told_chain.addresses if event.told_chain is not None else ()
        found = [(address, spaces.of(event.pid).find(address)) for address in told]
        shown = [address - at.start + at.file_offset if at is not None else address for address, at in found]
        chains.append([*event.kernel_chain, *shown])
    return chains


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "zstd"])
def test_a_pipe_is_what_perf_script_makes_of_it(record: Callable[..., Path], tmp_path: Path, packed: bool) -> None:
    if packed and not perf_has("zstd"):
        pytest.skip("this perf is built without zstd, so it cannot make the file")
    piped = tmp_path / "piped.data"
    program = record("some.data", "-e", "cpu-clock").parent / "spin"
    options = ["-e", "cpu-clock", "-F", "997", "-g", *(["-z"] if packed else [])]
    with piped.open("wb") as file:
        subprocess.run(["perf", "record", "-qN", *options, "-o", "-", program], stdout=file, check=True)
    opened = PerfData(piped)
    found = [event for event in opened.events() if isinstance(event, Sample)]
    opened.close()
    assert opened.is_pipe
    assert set(opened.faults) <= MACHINES_OWN
    assert not opened.unknown_kinds
    assert [event.name for event in opened.perf_events] == ["cpu-clock"]
    assert opened.features.command_line[-1] == str(program)
    # perf script reads a pipe of its own only.
    with piped.open("rb") as file:
        shown = subprocess.run(
            ["perf", "script", "-G", "-i", "-", "--ns", "-F", "pid,tid,time"],
            stdin=file,
            capture_output=True,
            text=True,
        ).stdout
    rows = [line.split() for line in shown.split("\n") if line.strip()]
    expected = [(*map(int, ids.split("/")), nanoseconds(time)) for ids, time in rows]
    assert [(hit.pid, hit.tid, hit.time_ns) for hit in found] == expected
    assert found


def test_packed_records_are_those_of_perf_script(record: Callable[..., Path]) -> None:
    path = record("zstd.data", "-z", "-e", "cpu-clock", "-F", "997", "-g")
    if not perf_has("zstd"):
        pytest.skip("this perf is built without zstd, so it cannot make the file")
    file = PerfData(path)
    found = [event for event in file.events() if isinstance(event, Sample)]
    file.close()
    assert set(file.faults) <= MACHINES_OWN
    assert [(hit.pid, hit.tid, hit.time_ns) for hit in found] == script_samples(path)
    assert whole_chains(path) == script_chains(path)


def test_chains_of_frame_pointers_are_those_of_perf_script(record: Callable[..., Path]) -> None:
    path = record("fp.data", "--call-graph", "fp", "-e", "cpu-clock", "-F", "997")
    found = [event for event in read_perf_data(path) if isinstance(event, Sample)]
    assert whole_chains(path) == script_chains(path)
    assert any(hit.told_chain is not None for hit in found)


def test_names_and_build_ids_are_those_of_perf(record: Callable[..., Path]) -> None:
    path = record("names.data", "-e", "cpu-clock/freq=500,name=ticks/,page-faults:u", "-g")
    file = PerfData(path)
    found = [event for event in file.events() if isinstance(event, Sample)]
    file.close()
    names = [line.split()[-1].rstrip(":") for line in perf_script(path, "-F", "event").split("\n") if ":" in line]
    assert [file.perf_events[hit.places[0]].name for hit in found] == names
    assert set(names) == {"ticks", "page-faults:u"}
    shown = subprocess.run(["perf", "buildid-list", "-i", path], check=True, capture_output=True, text=True).stdout
    listed = [line.split(None, 1) for line in shown.splitlines()]
    assert {name: {bytes.fromhex(number)} for number, name in listed} == file.features.build_ids
    header = subprocess.run(["perf", "script", "-i", path, "--header-only"], check=True, capture_output=True, text=True)
    told = dict(line[2:].split(" : ", 1) for line in header.stdout.splitlines() if " : " in line)
    features = file.features
    assert (told["hostname"], told["os release"], told["arch"]) == (
        features.hostname,
        features.os_release,
        features.architecture,
    )


@pytest.fixture(scope="module")
def folder(record: Callable[..., Path]) -> Path:
    return record("folder", "--threads", "-g", "-e", "cpu-clock", "-F", "997")


def test_a_folder_of_threads_is_read_in_the_order_of_time(folder: Path) -> None:
    assert folder.is_dir() and kind_of_file(folder) is CaptureKind.PERF_DATA
    file = PerfData(folder)
    events = list(file.events())
    file.close()
    found = [event for event in events if isinstance(event, Sample)]
    assert found and sorted((hit.pid, hit.tid, hit.time_ns) for hit in found) == sorted(script_samples(folder))
    times = [event.time_ns for event in events if not isinstance(event, RecordsLost)]
    assert times == sorted(times)
    assert not fits_columns(file), "columns are of one file"
    assert set(file.faults) <= MACHINES_OWN


def test_packed_records_of_threads_are_those_of_perf_script(record: Callable[..., Path]) -> None:
    folder = record("packed_folder", "--threads", "-z", "-e", "cpu-clock", "-F", "997")
    found = [event for event in read_perf_data(folder) if isinstance(event, Sample)]
    assert found and sorted((hit.pid, hit.tid, hit.time_ns) for hit in found) == sorted(script_samples(folder))


def test_what_a_damaged_folder_has_is_read(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    largest = max(copy.glob("data.*"), key=lambda each: each.stat().st_size)
    whole = [event for event in read_perf_data(copy) if isinstance(event, Sample)]
    with largest.open("ab") as file:
        file.write(b"\x09\0\0\0")
    cut = PerfData(copy)
    assert [event for event in cut.events() if isinstance(event, Sample)] == whole
    cut.close()
    assert cut.faults[FileFault.DATA_CUT_SHORT] == 1 and cut.unread == 4
    # Of the last one none could tell that it was there.
    largest.rename(copy / "data.0")
    (copy / "data.999").write_bytes(b"")
    missing = PerfData(copy)
    assert [event for event in missing.events() if isinstance(event, Sample)]
    missing.close()
    assert missing.faults[FileFault.THREAD_FILE_MISSING] == 1000 - len(list(copy.glob("data.*")))
    assert any("missing" in line for line in missing.shortcomings())


def sample_places(content: bytes, begin: int, end: int) -> list[tuple[int, int]]:
    """(begin, end) of the samples of a file whose records follow each other, by their headers alone."""
    found = []
    while begin < end:
        kind, _, size = struct.unpack_from("<IHH", content, begin)
        if kind == 9:
            found.append((begin, begin + size))
        begin += size
    return found


@pytest.fixture(scope="module")
def one_ring(record: Callable[..., Path]) -> Path:
    """A recording of one CPU, whose records come in the order of their times."""
    cpu = str(min(os.sched_getaffinity(0)))
    options = ("--call-graph", "dwarf,8192", "-e", "cpu-clock", "-F", "997", "--", "taskset", "-c", cpu)
    return record("pinned.data", *options)


@pytest.mark.parametrize("filling", [b"\0", b"\xff"], ids=["zeros", "ones"])
def test_samples_around_an_overwritten_block_are_those_of_the_whole(
    one_ring: Path, tmp_path: Path, filling: bytes
) -> None:
    """The room for a stack that is smaller holds older records of the ring, whole ones: they are not told twice."""
    content = one_ring.read_bytes()
    data_at, data_size = struct.unpack_from("<QQ", content, 40)
    places = sample_places(content, data_at, data_at + data_size)
    with_times = {hit.time_ns: hit for hit in read_perf_data(one_ring) if isinstance(hit, Sample)}
    times = [next(time for time in with_times if struct.pack("<Q", time) in content[at : at + 48]) for at, _ in places]
    assert len(set(times)) == len(times) == len(with_times)
    # Behind the last one enough follow to be sure of them; before the process was moved there was another ring.
    sorted_from = next(number for number in range(len(times)) if times[number:] == sorted(times[number:]))
    last = max(number for number, (at, _) in enumerate(places) if at + 20000 <= places[-20][0])
    assert sorted_from + 1 < last
    for number in (sorted_from + 1, (sorted_from + 1 + last) // 2, last):
        begin = places[number][0]
        for size in (8, 24, 4096, 20000):
            stop = begin + size
            damaged = tmp_path / "damaged.data"
            damaged.write_bytes(content[:begin] + filling * size + content[stop:])
            file = PerfData(damaged)
            found = [event for event in file.events() if isinstance(event, Sample)]
            file.close()
            untouched = {time for time, (at, end) in zip(times, places, strict=True) if end <= begin or at >= stop}
            assert {hit.time_ns: hit for hit in found} == {time: with_times[time] for time in untouched}
            assert len(found) == len(untouched)
            assert file.faults[FileFault.BAD_RECORD_SIZE] == 1 and file.unread >= size
