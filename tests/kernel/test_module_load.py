"""What the module stands: hits as fast as a guest can make them, loads and unloads without end.

Each read of the workload asks for as many bytes as its number is, which is in the third argument's register of its
record: so it is known of every record which call it is of, and of every call whether there is a record.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from kernel.guest import complaints
from kernel_module.packed_record import ReadHit, read_record, records_of

from relay_reader import record_layout as layout
from relay_reader.module_capture import CpuAccount, ModuleCapture
from relay_reader.record_schema import RECORD_HEAD

_ARGUMENT = 1
"""rdx by its DWARF number: the third argument."""
_STACK_POINTER = 7


@cache
def _records(path: Path) -> list[ReadHit]:
    """The hits of a capture in the order of each CPU's file. Fails for one that does not hold together."""
    records = [record for record in records_of(path) if RECORD_HEAD.parse(record).kind == layout.RECORD_KIND_HIT]
    return [read_record(record) for record in records]


def _told(path: Path) -> dict[int, int]:
    """Process of the workload -> the calls that it has counted."""
    lines = [line.split() for line in path.read_text().splitlines()]
    assert len(lines) == 2
    return {int(pid): int(calls) for pid, calls, _ in lines}


def _of_cpu(path: Path, cpu: int) -> list[ReadHit]:
    return [record for record in _records(path) if record.head["cpu"] == cpu]


def _accounts(path: Path) -> list[CpuAccount]:
    accounts = ModuleCapture(path).accounts
    assert sorted(account.cpu for account in accounts) == [0, 1]
    return accounts


def _assert_whole(records: list[ReadHit], pids: set[int]) -> None:
    """Records of the workload's calls are all of one stack; its return addresses are in what was copied of it."""
    own = [record for record in records if record.head["pid"] in pids]
    chains = {record.chain for record in own}
    assert len(chains) == 1 and len(next(iter(chains))) >= 4
    for record in own:
        assert record.head["tid"] == record.head["pid"]
        assert bytes(record.head["comm"]).rstrip(b"\0") == b"counted_reads"
        if not record.words:
            continue
        # In the order of their places: what else was copied lies in between.
        values = iter([record.words[address] for address in sorted(record.words)])
        assert all(pc in values for pc in record.chain[1:])
        assert record.words[int(record.registers[_STACK_POINTER])] == record.chain[1]
    times = [int(record.head["time_ns"]) for record in records]
    assert times == sorted(times)


@pytest.mark.parametrize("name", ["counted", "slow"])
def test_no_record_is_torn(loaded, name):
    told = _told(loaded.run.results / f"{name}.told")
    for cpu in (0, 1):
        records = _of_cpu(loaded.run.results / name, cpu)
        assert any(record.words for record in records) == (name == "slow")
        _assert_whole(records, set(told))


def test_a_reader_that_keeps_up_has_every_call(loaded):
    path, told = loaded.run.results / "counted", _told(loaded.run.results / "counted.told")
    assert loaded.seen["counted"]["status"] == 0
    assert sum(told.values()) == 2 * loaded.load["reads"]
    calls: dict[int, list[int]] = {pid: [] for pid in told}
    others = 0
    for cpu in (0, 1):
        records = _of_cpu(path, cpu)
        assert [int(record.head["sequence"]) for record in records] == list(range(1, len(records) + 1))
        for record in records:
            if int(record.head["pid"]) in told:
                calls[int(record.head["pid"])].append(int(record.registers[_ARGUMENT]))
            else:
                others += 1
    for pid, count in told.items():
        assert calls[pid] == list(range(1, count + 1))
    for account in _accounts(path):
        assert account.dropped == account.missed == 0
    assert sum(account.hits for account in _accounts(path)) == sum(told.values()) + others


def test_of_a_slow_reader_every_lost_call_is_counted(loaded):
    path, told = loaded.run.results / "slow", _told(loaded.run.results / "slow.told")
    assert loaded.seen["slow"]["status"] == 0 and sum(told.values()) == 2 * loaded.load["reads too fast"]
    others = gaps = 0
    for account in _accounts(path):
        records = _of_cpu(path, account.cpu)
        assert account.missed == 0 < account.dropped
        assert account.hits == len(records) + account.dropped
        for number, record in enumerate(records, 1):
            assert int(record.head["sequence"]) == number + int(record.head["dropped"])
        own = [record for record in records if int(record.head["pid"]) in told]
        others += len(records) - len(own)
        # One process a CPU: what its calls skip, its records' numbers skip.
        assert len({int(record.head["pid"]) for record in own}) == 1
        for first, second in pairwise(own):
            skipped = second.registers[_ARGUMENT] - first.registers[_ARGUMENT]
            assert skipped == int(second.head["sequence"]) - int(first.head["sequence"]) >= 1
            gaps += skipped > 1
    assert gaps > 4
    assert sum(account.hits for account in _accounts(path)) == sum(told.values()) + others


def test_nothing_is_kept_of_many_loads(loaded):
    """Memory is where it was: no objects of any slab cache are left that grow with the loads, nor other memory."""
    cycles = loaded.seen["cycles"]
    assert (
        len(cycles["hits"]) == loaded.load["cycles"]
        and sum(hits > 0 for hits in cycles["hits"]) > loaded.load["cycles"] // 2
    )
    before, after = cycles["before"], cycles["after"]
    for name, (count, a_slab) in before["slabs"].items():
        # What is free in the slab that a CPU takes objects from counts as used.
        allowed = max(loaded.load["cycles"] // 2, 4 * a_slab)
        assert after["slabs"].get(name, [0])[0] - count < allowed, name
    assert after["percpu kB"] - before["percpu kB"] <= 64
    assert before["areas"] == after["areas"] == []
    assert not loaded.seen["left"]


def test_no_leak_is_known_to_the_kernel(loaded):
    """By kmemleak, of the kernel that has it."""
    assert not loaded.seen["kmemleak"]


def test_the_kernel_has_not_complained(loaded):
    assert complaints(loaded.run.kernel_log) == []
