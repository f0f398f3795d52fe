"""What is replaced, and what is left alone because it is not known."""

from __future__ import annotations

from relay_reader.capture import (
    Mapping,
    MappingAdded,
    ProcessExeced,
    ProcessForked,
    RecordsLost,
    Sample,
    StackSlice,
    ThreadExited,
)
from relay_reader.return_trampoline import ReturnTrampolines

AREA = 0x7FFFFFFFE000
CALLER = 0x401234


def armed() -> ReturnTrampolines:
    trampolines = ReturnTrampolines()
    trampolines.observe(MappingAdded(1, 5, Mapping(AREA, AREA + 4096, 0, "[uprobes]")))
    trampolines.enter(5, 5, 0x1010, CALLER)
    return trampolines


def word_at(trampolines: ReturnTrampolines, slot: int = 0x1010, pid: int = 5, tid: int = 5) -> int:
    """What the walk sees at `slot`, where the kernel put the trampoline."""
    data = b"".join((AREA if address == slot else 0x11).to_bytes(8, "little") for address in range(0x1000, 0x1040, 8))
    sample = Sample(2, 0, pid, tid, (0,), (0,) * 17, 0, [StackSlice(0x1000, data, cut=True)])
    trampolines.restore(sample)
    (part,) = sample.slices
    assert part.cut and len(part.data) == len(data)
    at = slot - 0x1000
    assert part.data[:at] + part.data[at + 8 :] == data[:at] + data[at + 8 :]
    return int.from_bytes(part.data[at : at + 8], "little")


def test_the_recorded_caller_is_put_back() -> None:
    trampolines = armed()
    assert word_at(trampolines) == CALLER
    assert (trampolines.replaced, trampolines.unknown) == (1, 0)


def test_an_unseen_slot_is_left_alone_and_counted() -> None:
    trampolines = armed()
    assert word_at(trampolines, slot=0x1020) == AREA
    assert (trampolines.replaced, trampolines.unknown) == (0, 1)


def test_a_chained_tail_call_keeps_the_first_caller() -> None:
    trampolines = armed()
    trampolines.enter(5, 5, 0x1010, AREA)
    assert word_at(trampolines) == CALLER


def test_a_returned_call_is_forgotten() -> None:
    trampolines = armed()
    trampolines.leave(5, 0x1018)
    assert word_at(trampolines) == AREA


def test_other_threads_and_processes_have_their_own() -> None:
    trampolines = armed()
    assert word_at(trampolines, tid=6) == AREA
    trampolines.observe(ProcessForked(3, 5, 5, 6, 5))
    assert word_at(trampolines, tid=6) == AREA, "a thread has a stack of its own"
    trampolines.observe(ProcessForked(3, 9, 5, 9, 5))
    assert word_at(trampolines, pid=9, tid=9) == CALLER, "a child has a copy"
    trampolines.leave(9, 0x1018)
    assert word_at(trampolines) == CALLER


def test_nothing_survives_an_exec_an_exit_or_a_loss() -> None:
    for event in (ProcessExeced(4, 5, "x"), ThreadExited(4, 5, 5), RecordsLost(4, 0, 1)):
        trampolines = armed()
        trampolines.observe(event)
        assert word_at(trampolines) == AREA


def test_a_word_that_straddles_slots_is_not_touched() -> None:
    trampolines = armed()
    data = b"\0" * 4 + AREA.to_bytes(8, "little") + b"\0" * 4
    sample = Sample(2, 0, 5, 5, (0,), (0,) * 17, 0, [StackSlice(0x100C - 4, data)])
    trampolines.restore(sample)
    assert sample.slices[0].data == data
    assert trampolines.unknown == 0
