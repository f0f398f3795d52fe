"""Every kind of probe and 997 samples a second at once, while modules come and go, the module itself among them.

What the programs have counted of themselves, what the module has counted, and the records have to agree to the last
hit: one is recorded, or dropped, or not wanted, or was left out by the kernel, and each of these is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from kernel.every_kind import INITIAL, INNERMOST
from kernel.load_boot import Loaded

from cfi_tables.layout import StopReason
from relay_reader.capture import Event, KernelSectionPlaced, RecordsLost, Sample
from relay_reader.module_capture import CpuAccount, ModuleCapture

_MODULE_AREA = 0xFFFFFFFFC0000000
"""Where x86-64 has modules (the kernel's Documentation/x86/x86_64/mm.rst)."""
_OF_THE_CAPTURE = frozenset({"radix_tree_node", "xa_node"})
"""Caches that grow with the capture's file, which is in the guest's memory."""
_OF_KMEMLEAK = frozenset({"kmemleak_object"})
"""What a kernel that looks for leaks notes of each object that is there, the capture's among them."""


@cache
def _capture(path: Path) -> tuple[list[Event], list[CpuAccount]]:
    capture = ModuleCapture(path)
    return list(capture.events()), capture.accounts


def _events(loaded: Loaded) -> tuple[list[Event], list[CpuAccount]]:
    return _capture(loaded.run.results / "endurance")


def _samples(loaded: Loaded) -> Iterator[Sample]:
    return (event for event in _events(loaded)[0] if isinstance(event, Sample))


def _hits(loaded: Loaded) -> Counter[str]:
    """By the probe's name."""
    places = loaded.every_kind.places
    return Counter(places[sample.places[0]].name for sample in _samples(loaded))


def _assert_counted(loaded: Loaded, recorded: int, happened: int) -> None:
    """So many records of what has happened so often: all of them, but for what was lost, which is counted."""
    accounts = _events(loaded)[1]
    lost = sum(account.dropped + account.missed for account in accounts)
    assert recorded <= happened <= recorded + lost, (recorded, happened, lost)


def test_every_kind_is_hit(loaded):
    hits = _hits(loaded)
    assert loaded.seen["endurance"]["status"] == 0
    assert set(hits) == {place.name for place in loaded.every_kind.places}


def test_every_hit_is_accounted_for(loaded):
    """By the last record of each CPU, by the module's own status, and by the records that there are."""
    accounts = _events(loaded)[1]
    recorded = Counter(sample.cpu for sample in _samples(loaded))
    assert sorted(account.cpu for account in accounts) == sorted(recorded) == [0, 1]
    for account in accounts:
        assert account.hits == recorded[account.cpu] + account.dropped + account.unwanted + account.others
        told = f"cpu {account.cpu} hits {account.hits} dropped {account.dropped} unwanted {account.unwanted} "
        assert any(line.startswith(told) for line in loaded.seen["endurance"]["told"])
    lost = sum(event.count for event in _events(loaded)[0] if isinstance(event, RecordsLost))
    assert lost == sum(account.dropped for account in accounts)
    assert sum(account.unwanted for account in accounts) > 0


def test_what_was_counted_by_the_programs_is_recorded(loaded):
    """Each load of the module calls its start once, each of two reads what is in it; the program notes each call."""
    seen, hits = loaded.seen["endurance"], _hits(loaded)
    assert seen["loads"] > 1 and seen["calls"] > 10
    _assert_counted(loaded, hits[INITIAL], seen["loads"])
    in_module = [place.name for place in loaded.every_kind.places if place.name.startswith("module")]
    of_reads = [name for name in in_module if "folded" not in name and name != INITIAL]
    assert INNERMOST in of_reads and len(of_reads) == 3
    for name in of_reads:
        _assert_counted(loaded, hits[name], 2 * seen["loads"])
    in_program = [place.name for place in loaded.every_kind.places if place.name.startswith("process")]
    assert len(in_program) == 2
    for name in in_program:
        _assert_counted(loaded, hits[name], seen["calls"])


def test_stacks_are_whole_whatever_comes_and_goes(loaded):
    """Each to the kernel's entry; one that goes through code of a module that the session does not name ends there.

    Timers and switches of tasks find such, the loads of our own module among them, and code that no table describes:
    retpoline thunks on 7.x and kretprobe_trampoline on 5.10 have no ORC entry. What else is probed finds none.
    """
    others, undescribed, count = set(), 0, 0
    for sample in _samples(loaded):
        count += 1
        stack, name = sample.kernel_stack, loaded.every_kind.places[sample.places[0]].name
        if stack is not None and stack.stop != StopReason.END_OF_STACK:
            others.add(name.split("(")[0])
            if stack.stop == StopReason.NO_ROW:
                undescribed += 1
            else:
                assert stack.stop == StopReason.NO_MAPPING and stack.stop_detail >= _MODULE_AREA, name
    assert others <= {"timer.profile", "kernel.trace"} and undescribed < count / 100
    placed = [event for event in _events(loaded)[0] if isinstance(event, KernelSectionPlaced) and event.address]
    modules = ModuleCapture(loaded.run.results / "endurance").description["modules"]
    described = {(number, each) for number, module in enumerate(modules) for each in range(len(module["sections"]))}
    assert {(event.module, event.section) for event in placed} == described


def test_a_module_may_go_at_once(loaded):
    """What the kernel has to say of it test_the_kernel_has_not_complained would tell."""
    assert all(loaded.seen["endurance"]["removals"])


def test_nothing_is_kept(loaded):
    """Memory is where it was, after the run, and after loads of the module while all went on."""
    seen = loaded.seen["endurance"]
    assert len(seen["cycles"]["hits"]) > 2 and all(seen["cycles"]["hits"])
    for before, after in ((seen["before"], seen["after"]), (seen["after"], seen["cycles"]["after"])):
        for name, (count, a_slab) in before["slabs"].items():
            growth = after["slabs"].get(name, [0])[0] - count
            assert name in _OF_THE_CAPTURE | _OF_KMEMLEAK or growth < max(seen["loads"] // 2, 4 * a_slab), name
        assert after["percpu kB"] - before["percpu kB"] <= 64
        assert before["areas"] == after["areas"] == []
