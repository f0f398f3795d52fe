"""perf.data as columns: sample for sample, frame for frame and fault for fault what the objects say."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pytest

from cfi_tables.layout import StopReason
from relay_reader import perf_scan
from relay_reader.capture import Event, Sample
from relay_reader.perf_columns import PerfChunk, PerfColumns, fits_columns
from relay_reader.perf_data import PerfData
from unwind import place_table
from unwind.batch_walk import BatchWalker
from unwind.column_names import ColumnNames
from unwind.column_stacks import ColumnWalker, StackColumns
from unwind.module import ModuleCatalog
from unwind.walk import FRAME_EXACT, FRAME_FLAGS, FRAME_PC, FRAME_SIGNAL

_OPTIONS = {
    "user": ("-e", "cpu-clock:u", "-F", "2000", "--call-graph", "dwarf,1024"),
    "kernel": ("-e", "cpu-clock,task-clock", "-F", "1000", "--call-graph", "dwarf,2048"),
    "packed": ("-e", "cpu-clock", "-F", "1000", "--call-graph", "dwarf,2048", "-z"),
}


class Stack(NamedTuple):
    """A sample, and its stack as far as both ways tell it."""

    told: tuple[int, ...]
    """Time, process, thread, CPU, event, weight."""
    kernel: list[int]
    stop: tuple[int, int]
    frames: list[tuple[int, int, int, str | None]]
    """Pc, address for symbols, flags, module."""


@pytest.fixture(scope="module", params=[*_OPTIONS, "piped"])
def recording(
    request: pytest.FixtureRequest, record: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A recording of each kind that can be walked."""
    if request.param in _OPTIONS:
        return record(f"{request.param}.data", *_OPTIONS[request.param])
    path = record("plain.data", *_OPTIONS["kernel"])
    piped = tmp_path_factory.mktemp("piped") / "piped.data"
    with piped.open("wb") as file:
        subprocess.run(["perf", "inject", "-i", path, "-o", "-"], stdout=file, check=True)
    return piped


@pytest.fixture(scope="module")
def catalog() -> ModuleCatalog:
    return ModuleCatalog()


Found: TypeAlias = tuple[list[Stack | Event], dict[object, int]]
"""All events of a recording in order, the samples walked; and its faults."""


@pytest.fixture(scope="module")
def expected(recording: Path, catalog: ModuleCatalog) -> Found:
    """What the recording holds by `BatchWalker`."""
    return by_objects(recording, catalog)


def by_objects(recording: Path, catalog: ModuleCatalog) -> Found:
    file = PerfData(recording)
    events = list(file.events())
    file.close()
    stacks: list[Stack] = []
    for batch in BatchWalker(catalog, 10_000).walk(events):
        rows = batch.frames
        columns = zip(
            rows[:, FRAME_PC].tolist(),
            batch.lookup_addresses.tolist(),
            (rows[:, FRAME_FLAGS] & (FRAME_EXACT | FRAME_SIGNAL)).tolist(),
            [batch.modules[index].path if index >= 0 else None for index in batch.frame_modules.tolist()],
            strict=True,
        )
        frames = list(columns)
        for index, hit in enumerate(batch.samples):
            told = (hit.time_ns, hit.pid, hit.tid, hit.cpu, hit.places[0], hit.weight)
            stop = (int(batch.reasons[index]), int(batch.details[index]))
            stacks.append(Stack(told, list(hit.kernel_chain), stop, frames[batch.frames_of(index)]))
    walked = iter(stacks)
    return [next(walked) if isinstance(event, Sample) else event for event in events], dict(file.faults)


def in_order(stacks: StackColumns) -> Iterator[Stack | Event]:
    """Samples and other events of one piece as they followed each other."""
    modules = [stacks.modules[each].path if each >= 0 else None for each in stacks.column(place_table.PLACE_MODULE)]
    columns = (
        stacks.column(each).tolist()
        for each in (place_table.PLACE_PC, place_table.PLACE_LOOKUP, place_table.PLACE_FLAGS)
    )
    frames = list(zip(*columns, modules, strict=True))
    kernel = [each % 2**64 for each in stacks.kernel_addresses.tolist()]
    ends = [0, *stacks.kernel_ends.tolist()]
    events = list(stacks.events)
    for index in range(len(stacks.times)):
        while events and events[0][0] <= index:
            yield events.pop(0)[1]
        task = int(stacks.tasks[index])
        told = (stacks.times[index], task & 0xFFFFFFFF, task >> 32, stacks.cpus[index], stacks.sources[index])
        yield Stack(
            tuple(map(int, (*told, stacks.weights[index]))),
            kernel[ends[index] : ends[index + 1]],
            (int(stacks.reasons[index]), int(stacks.details[index])),
            frames[stacks.frames_of(index)],
        )
    yield from (event for _, event in events)


def walked(path: Path, catalog: ModuleCatalog, threads: int) -> Found:
    file = PerfData(path)
    assert fits_columns(file)
    walker = ColumnWalker(catalog, 10_000, threads)
    found = [each for stacks in walker.walk(PerfColumns(file)) for each in in_order(stacks)]
    file.close()
    return found, dict(file.faults)


@pytest.mark.parametrize("threads", [1, 2])
def test_stacks_and_events_are_those_of_the_objects(
    recording: Path, catalog: ModuleCatalog, expected: Found, threads: int
) -> None:
    assert walked(recording, catalog, threads) == expected
    stacks = [each for each in expected[0] if isinstance(each, Stack)]
    assert sum(len(each.frames) > 3 for each in stacks) > 50, "it has stacks worth the name"
    if recording.name == "user.data":  # of the others perf may lose a part when the machine is busy
        reasons = {StopReason(each.stop[0]) for each in stacks}
        assert {StopReason.END_OF_STACK, StopReason.STACK_CUT} <= reasons, "it has whole and cut stacks"
        assert len({each.told[1] for each in stacks}) == 2, "it has two processes"


def test_small_arrays_and_chunks_change_nothing(
    recording: Path, catalog: ModuleCatalog, expected: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_CHUNK_ROWS", 61), ("_CHUNK_BYTES", 1 << 15), ("_CHUNK_ROUNDS", 2)):
        monkeypatch.setattr(f"relay_reader.perf_columns.{name}", value)
    for name, value in (("_FIRST_PLACES", 8), ("_FRAMES_A_SAMPLE", 1), ("_MOST_PLACES", 50), ("_FEW_SAMPLES", 5)):
        monkeypatch.setattr(f"unwind.column_stacks.{name}", value)
    assert walked(recording, catalog, 2) == expected


def test_stacks_that_differ_in_one_word_are_not_taken_for_the_same(
    record: Callable[..., Path], catalog: ModuleCatalog, tmp_path: Path
) -> None:
    """Of each stack some words are overwritten, at places that go through the innermost KiB."""
    path = record("words.data", "-e", "cpu-clock:u", "-F", "5000", "--call-graph", "dwarf,4096")
    file = PerfData(path)
    found = [chunk.samples[:, [perf_scan.ROW_STACK, perf_scan.ROW_STACK_BYTES]] for chunk in PerfColumns(file).chunks()]
    file.close()
    whole = by_objects(path, catalog)
    content = bytearray(path.read_bytes())
    for number, (begin, size) in enumerate(np.concatenate(found).tolist()):
        for place in range(begin + number % 16 * 8, begin + min(size, 1024) - 8, 128):
            word = int.from_bytes(content[place : place + 8], "little")
            content[place : place + 8] = (word ^ (0x10, 0x7F0000000000)[number % 2]).to_bytes(8, "little")
    changed = tmp_path / "changed.data"
    changed.write_bytes(content)
    expected = by_objects(changed, catalog)
    assert walked(changed, catalog, 2) == expected
    same = [old == new for old, new in zip(whole[0], expected[0], strict=True) if isinstance(old, Stack)]
    assert 0 < sum(same) < len(same), "some words decide about frames and some do not"


def test_names_are_those_of_each_address(record: Callable[..., Path], catalog: ModuleCatalog) -> None:
    # With room for whole stacks: else it is chance whether one reaches main.
    file = PerfData(record("named.data", *_OPTIONS["user"][:-1], "dwarf,8192"))
    names, seen = ColumnNames(), set()
    for stacks in ColumnWalker(catalog, 10_000).walk(PerfColumns(file)):
        modules, addresses = stacks.column(place_table.PLACE_MODULE), stacks.column(place_table.PLACE_LOOKUP)
        numbers = names.numbers_of(stacks)
        for number, module, address in set(zip(numbers.tolist(), modules.tolist(), addresses.tolist(), strict=True)):
            symbols = stacks.modules[module].symbols if module >= 0 else None
            expected = symbols.frames_at(address) if symbols else []
            assert [(each.function, each.file, each.line, each.inlined) for each in names.frames(number)] == [
                (each.function, each.file, each.line, each.inlined) for each in expected
            ]
            seen.update(each.function for each in expected)
    assert {"down", "compare", "sorting", "work", "main"} <= seen


# --- damage


def objects(path: Path) -> tuple[list[object], tuple[object, ...]]:
    """What a file's events tell, and what could not be read."""
    file = PerfData(path)
    found: list[object] = []
    for event in file.events():
        if not isinstance(event, Sample):
            found.append(event)
            continue
        piece = event.slices[0] if event.slices else None
        told = (event.time_ns, event.pid, event.tid, event.cpu, event.weight, event.known)
        found.append((told, event.kernel_chain, piece and (piece.address, piece.data, piece.cut), event.guest))
    file.close()
    return found, (dict(file.faults), file.unread, file.unknown_kinds)


def columns(path: Path) -> tuple[list[object], tuple[dict[object, int], object, object]]:
    """The same by columns."""
    file = PerfData(path)
    found = [each for chunk in PerfColumns(file).chunks() for each in _told(chunk)]
    file.close()
    return found, (dict(file.faults), file.unread, file.unknown_kinds)


def _told(chunk: PerfChunk) -> Iterator[object]:
    events = list(chunk.events)
    for index, row in enumerate(chunk.samples):
        while events and events[0][0] <= index:
            yield events.pop(0)[1]
        ends, addresses = np.zeros(1, dtype=np.int64), np.zeros(1 << 13, dtype=np.int64)
        count = perf_scan.kernel_chains(
            memoryview(chunk.data), memoryview(row), memoryview(ends), memoryview(addresses)
        )
        kernel = tuple(int(each) % 2**64 for each in addresses[:count])
        at, size = int(row[perf_scan.ROW_STACK]), int(row[perf_scan.ROW_STACK_BYTES])
        place = int(row[perf_scan.ROW_REGISTERS]) + 8 * int(
            chunk.layouts[int(row[perf_scan.ROW_EVENT]) * perf_scan.LAYOUT_WIDTH + perf_scan.LAYOUT_PLACES + 7]
        )
        pointer = int.from_bytes(chunk.data[place : place + 8].tobytes(), "little")
        stack = (pointer, chunk.data[at : at + size].tobytes(), bool(row[perf_scan.ROW_STACK_CUT])) if size else None
        task, weight = int(row[perf_scan.ROW_TASK]) % 2**64, int(row[perf_scan.ROW_WEIGHT]) % 2**64
        time = int(row[perf_scan.ROW_TIME]) % 2**64
        told = (time, task & 0xFFFFFFFF, task >> 32, int(row[perf_scan.ROW_CPU]), weight, int(row[perf_scan.ROW_KNOWN]))
        yield told, kernel, stack, bool(row[perf_scan.ROW_FAULT] & perf_scan.GUEST)
    yield from (event for _, event in events)


@pytest.fixture(scope="module")
def beginning(record: Callable[..., Path]) -> bytes:
    """The first bytes of a recording, up to some samples of each process."""
    whole = record("damaged.data", *_OPTIONS["kernel"]).read_bytes()
    return whole[: 1 << 17]


def test_a_file_cut_anywhere_gives_the_same(beginning: bytes, tmp_path: Path) -> None:
    cut = tmp_path / "cut.data"
    samples = set()
    for size in range(len(beginning), 1 << 12, -(len(beginning) // 23 | 1)):
        cut.write_bytes(beginning[:size])
        by_columns = columns(cut)
        assert by_columns == objects(cut)
        samples.add(sum(isinstance(each, tuple) for each in by_columns[0]))
    assert len(samples) > 5, "they are cut between samples"


def test_damaged_words_give_the_same(beginning: bytes, tmp_path: Path) -> None:
    """The words of one sample in turn, and words all over the file, are overwritten."""
    path = tmp_path / "damaged.data"
    path.write_bytes(beginning)
    file = PerfData(path)
    chunk = next(chunk for chunk in PerfColumns(file).chunks() if len(chunk.samples))
    file.close()
    sample = chunk.samples[3]
    at = int(sample[perf_scan.ROW_AT])
    first = beginning.index(chunk.data[at : at + 128].tobytes())  # the chunk may hold a copy
    stack = first + int(sample[perf_scan.ROW_STACK]) - at
    places = [
        *range(first, stack + 16, 8),
        stack + int(sample[perf_scan.ROW_STACK_BYTES]),
        *range(4096, len(beginning), 4093),
    ]
    faults = set()
    for number, place in enumerate(places):
        for value in (b"\xff" * 8, bytes(8), b"\x10\0\x01\0\0\0\0\0")[: 3 if number % 4 == 0 else 1]:
            path.write_bytes(beginning[:place] + value + beginning[place + 8 :])
            by_columns = columns(path)
            assert by_columns == objects(path), (place - first, value)
            faults.update(by_columns[1][0])
    assert len(faults) >= 3, "the damage was noticed in several ways"
