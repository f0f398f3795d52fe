"""Bulk walks: frame for frame what the walker finds one by one, and the addresses that perf itself finds."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cfi_tables.layout import StopReason
from relay_reader.capture import Event, Sample
from relay_reader.perf_data import read_perf_data
from unwind.address_space import AddressSpaces
from unwind.batch_names import BatchNames
from unwind.batch_walk import BatchWalker, WalkedBatch
from unwind.module import ModuleCatalog
from unwind.stack_walker import StackWalker, WalkedStack
from unwind.symbolize.symbol_frame import SymbolFrame


@pytest.fixture(scope="module")
def recording(record: Callable[..., Path]) -> Path:
    """Some stacks are cut by the dump's size."""
    return record("batch.data", "-e", "cpu-clock:u", "-F", "4000", "--call-graph", "dwarf,2048")


@pytest.fixture(scope="module")
def events(recording: Path) -> list[Event]:
    return list(read_perf_data(recording))


@pytest.fixture(scope="module")
def catalog() -> ModuleCatalog:
    return ModuleCatalog()


@pytest.fixture(scope="module")
def batches(events: list[Event], catalog: ModuleCatalog) -> list[WalkedBatch]:
    return list(BatchWalker(catalog, 10_000).walk(events))


def one_by_one(events: list[Event], catalog: ModuleCatalog, max_depth: int = 10_000) -> Iterator[WalkedStack]:
    spaces, walker = AddressSpaces(), StackWalker(catalog, max_depth)
    for event in events:
        if isinstance(event, Sample):
            yield walker.walk(event, spaces.of(event.pid))
        else:
            spaces.apply(event)


def unsigned(values: list[int]) -> list[int]:
    return [value % 2**64 for value in values]


Summary = tuple[int, int, list[int], list[int], list[str | None]]
"""Reason, detail, pcs, lookup addresses, module paths."""


def summaries(batches: list[WalkedBatch]) -> list[Summary]:
    found: list[Summary] = []
    for batch in batches:
        pcs = unsigned(batch.frames[:, 0].tolist())
        lookups = unsigned(batch.lookup_addresses.tolist())
        paths = [batch.modules[index].path if index >= 0 else None for index in batch.frame_modules.tolist()]
        for index in range(len(batch.samples)):
            rows = batch.frames_of(index)
            detail = int(batch.details[index]) % 2**64
            found.append((int(batch.reasons[index]), detail, pcs[rows], lookups[rows], paths[rows]))
    return found


def summary_of(stack: WalkedStack) -> Summary:
    frames = stack.frames
    return (
        int(stack.stop),
        stack.detail,
        [frame.pc for frame in frames],
        [frame.lookup_address % 2**64 for frame in frames],
        [frame.module.path if frame.module else None for frame in frames],
    )


def test_frames_and_reasons_are_those_of_single_walks(
    events: list[Event], catalog: ModuleCatalog, batches: list[WalkedBatch]
) -> None:
    expected = [summary_of(stack) for stack in one_by_one(events, catalog)]
    assert summaries(batches) == expected
    reasons = {StopReason(each[0]) for each in expected}
    assert {StopReason.END_OF_STACK, StopReason.STACK_CUT} <= reasons, "the recording has whole and cut stacks"
    assert len({sample.pid for batch in batches for sample in batch.samples}) == 2


@pytest.mark.parametrize("capacity", [3, 40, 1000])
def test_a_small_output_array_changes_nothing(
    events: list[Event], catalog: ModuleCatalog, batches: list[WalkedBatch], capacity: int
) -> None:
    walked = list(BatchWalker(catalog, 10_000, capacity).walk(events))
    assert summaries(walked) == summaries(batches)


def test_small_batches_change_nothing(
    events: list[Event], catalog: ModuleCatalog, batches: list[WalkedBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwind.batch_walk._BATCH_SAMPLES", 7)
    walked = list(BatchWalker(catalog, 10_000).walk(events))
    assert len(walked) > len(batches)
    assert summaries(walked) == summaries(batches)


def test_depth_limit_is_that_of_single_walks(events: list[Event], catalog: ModuleCatalog) -> None:
    expected = [summary_of(stack) for stack in one_by_one(events, catalog, max_depth=9)]
    found = summaries(list(BatchWalker(catalog, 9).walk(events)))
    # The detail of a stack that is too deep names the frame that was not kept; its reason says all.
    assert [(each[0], *each[2:]) for each in found] == [(each[0], *each[2:]) for each in expected]
    assert any(each[0] == StopReason.TOO_DEEP for each in expected)


def test_sample_without_registers_has_no_frames(events: list[Event], catalog: ModuleCatalog) -> None:
    first = next(event for event in events if isinstance(event, Sample))
    bare = Sample(first.time_ns, first.cpu, first.pid, first.tid, (), (), 0)
    (batch,) = BatchWalker(catalog, 100).walk([first, bare, first])
    assert batch.reasons[1] == StopReason.NO_REGISTERS
    assert batch.frames_of(1) == slice(int(batch.frame_ends[0]), int(batch.frame_ends[0]))


def test_names_are_those_of_each_address(batches: list[WalkedBatch]) -> None:
    names = BatchNames()

    def shown(place: list[SymbolFrame]) -> list[tuple[str | None, str | None, int | None]]:
        return [(symbol.function, symbol.file, symbol.line) for symbol in place]

    seen: set[str | None] = set()
    for batch in batches:
        rows = zip(
            names.places_of(batch).tolist(),
            batch.frame_modules.tolist(),
            unsigned(batch.lookup_addresses.tolist()),
            strict=True,
        )
        for place, module, address in set(rows):
            symbols = batch.modules[module].symbols if module >= 0 else None
            assert shown(names.places[place]) == shown(symbols.frames_at(address) if symbols else [])
            seen.update(symbol.function for symbol in names.places[place])
    assert {"down", "compare", "sorting", "work", "main"} <= seen


def perf_chains(recording: Path) -> list[list[int]]:
    """What perf script prints: for each sample, offsets in files, those of return addresses less one."""
    command = ["perf", "script", "-i", recording, "-F", "ip", "--no-inline"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [[int(line, 16) for line in block.split("\n") if line.strip()] for block in text.split("\n\n")][:-1]


def file_offsets(stack: WalkedStack) -> list[int]:
    """A stack's addresses as perf shows them."""
    return [
        frame.pc - (0 if frame.exact else 1) - frame.mapping.start + frame.mapping.file_offset
        for frame in stack.frames
        if frame.mapping is not None
    ]


def test_addresses_are_those_of_perf_script(recording: Path, events: list[Event], catalog: ModuleCatalog) -> None:
    theirs = perf_chains(recording)
    stacks = list(one_by_one(events, catalog))
    assert len(theirs) == len(stacks)
    whole = given_up = 0
    for stack, chain in zip(stacks, theirs, strict=True):
        ours = file_offsets(stack)
        if stack.stop is StopReason.END_OF_STACK:
            whole += 1
            # perf's own unwinder now and then gives a stack up that it has the bytes of (seen once in some 20,000
            # samples, after two frames); what it did find has to be the beginning of ours.
            assert ours[: len(chain)] == chain
            given_up += ours != chain
        elif stack.stop is StopReason.STACK_CUT:
            # Where the dump ends perf takes one more frame, whose address is -1; where the last return address is the
            # last word of the dump, it is in the place of that one.
            kept = [address for address in chain if address != 2**64 - 1]
            assert kept in (ours, ours[:-1])
    assert whole > 100
    assert given_up * 100 <= whole
