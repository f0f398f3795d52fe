"""One HIT record of the kernel module → a Sample (relay_reader/record_schema.py says what lies where)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from relay_reader import record_layout as layout
from relay_reader.capture import EM_386, X86_64_REGISTER_COUNT, KernelStack, Sample, StackSlice, UserStack
from relay_reader.packed_words import PackedWordsError, packed_size, unpack_words

_FIELDS = layout.HIT_DTYPE.names or ()
_ALL_REGISTERS = (1 << X86_64_REGISTER_COUNT) - 1
_STACK_POINTER = 7
_NARROW = (0, 2, 1, 3, 7, 6, 4, 5, 16)
"""For each register of i386 by DWARF number (System V ABI i386, table 2.14) that of x86-64 whose lower half it is."""
_NARROW_MASK = (1 << 32) - 1


class HitRecordError(ValueError):
    """The record's parts do not fill it, or its words are damaged."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What a record tells."""

    sequence: int
    """Its number among the hits of its CPU."""
    dropped: int
    """Hits of its CPU so far that have no record."""
    comm: str
    unread: int
    """Words of the kernel's runs that could not be read when the record was written."""
    sample: Sample


class _Content:
    """The words and runs of a hit, which are taken from the front."""

    def __init__(self, runs: list[int], content: memoryview, words: int, highs: int) -> None:
        self._words = unpack_words(content, words, highs)
        self._bytes = struct.pack(f"<{len(self._words)}Q", *self._words)
        self._runs = iter(runs)
        self._at = 0
        self._run_end = 0

    def take(self, count: int) -> list[int]:
        """The next `count` words. Raises HitRecordError when there are fewer."""
        begin, self._at = self._at, self._at + count
        if self._at > len(self._words):
            raise HitRecordError
        return self._words[begin : self._at]

    def registers(self, known: int) -> tuple[int, ...]:
        """All registers, of which those that `known` names are told; the others are 0."""
        if known >> X86_64_REGISTER_COUNT:
            raise HitRecordError
        if known == _ALL_REGISTERS:
            return tuple(self.take(X86_64_REGISTER_COUNT))
        told = iter(self.take(known.bit_count()))
        return tuple(next(told) if known >> number & 1 else 0 for number in range(X86_64_REGISTER_COUNT))

    def slices(self, count: int, pointer: int) -> list[StackSlice]:
        """The next `count` runs, of a stack whose pointer was this."""
        found = []
        self._run_end = pointer & ~7
        for _ in range(count):
            gap, words = next(self._runs), next(self._runs)
            address = self.take(1)[0] if gap == layout.GAP_FAR else (self._run_end + 8 * gap) % (1 << 64)
            self._run_end = address + 8 * words
            begin = 8 * self._at
            self.take(words)
            found.append(StackSlice(address, self._bytes[begin : 8 * self._at]))
        return found

    def is_used_up(self) -> bool:
        """Whether every word was taken."""
        return self._at == len(self._words)


def read_hit(record: memoryview) -> Hit:
    """What one whole record of kind HIT, of at least HIT_SIZE bytes, tells. Raises HitRecordError."""
    head: dict[str, Any] = dict(zip(_FIELDS, np.frombuffer(record, layout.HIT_DTYPE, 1)[0].item(), strict=True))
    runs = head["run_count"] + head["user_run_count"]
    words_start = layout.HIT_SIZE + layout.RUN_TOLD_SIZE * runs
    if words_start > len(record):
        raise HitRecordError
    told = np.frombuffer(record, "<u2", 2 * runs, layout.HIT_SIZE).tolist()
    words, highs = head["word_count"], head["high_count"]
    words_end = words_start + packed_size(words, highs)
    try:
        content = _Content(told, record[words_start:], words, highs)
    except PackedWordsError:
        raise HitRecordError from None
    registers, chain, stack = _kernel_part(head, content)
    user, user_slices = None, []
    if head["flags"] & layout.HIT_FLAG_USER_STACK:
        user = _user_part(head, content, registers)
        user_slices = content.slices(head["user_run_count"], user.registers[_STACK_POINTER])
    elif head["user_run_count"] or head["flags"] & layout.HIT_FLAG_USER_FLAT:
        raise HitRecordError
    if not content.is_used_up():
        raise HitRecordError
    user_slices += _flat(record[words_end + -words_end % 8 :], bool(head["flags"] & layout.HIT_FLAG_USER_FLAT))
    sample = Sample(
        time_ns=head["time_ns"],
        cpu=head["cpu"],
        pid=head["pid"],
        tid=head["tid"],
        places=(head["probe"],),
        registers=user.registers if user is not None else (),
        known=user.known if user is not None else 0,
        slices=user_slices,
        kernel_chain=chain,
        # A probe in user space has no stack of the kernel's.
        kernel_stack=stack if chain else None,
        user_stack=user,
    )
    if head["flags"] & layout.HIT_FLAG_USER_NARROW:
        _make_narrow(sample)
    comm = bytes(head["comm"]).split(b"\0")[0].decode("utf-8", "backslashreplace")
    return Hit(head["sequence"], head["dropped"], comm, head["unread"], sample)


def _make_narrow(sample: Sample) -> None:
    """The user's code was of i386: give the registers their own numbers."""
    registers, known = sample.registers, sample.known
    sample.registers = tuple(registers[number] & _NARROW_MASK for number in _NARROW) if registers else ()
    sample.known = sum((known >> number & 1) << own for own, number in enumerate(_NARROW))
    sample.machine = EM_386


def _kernel_part(head: dict[str, Any], content: _Content) -> tuple[tuple[int, ...], tuple[int, ...], KernelStack]:
    """(the hit's registers, the kernel's chain, its stack)."""
    stop_detail, slide = content.take(2)
    registers = content.registers(head["known"])
    chain = tuple(content.take(head["frame_count"]))
    stack = KernelStack(
        registers=registers,
        known=head["known"],
        slices=content.slices(head["run_count"], registers[_STACK_POINTER]),
        slide=slide,
        stop=head["stop"],
        stop_detail=stop_detail,
        flags=head["flags"],
        oracle=tuple(content.take(head["oracle_count"])),
    )
    return registers, chain, stack


def _user_part(head: dict[str, Any], content: _Content, registers: tuple[int, ...]) -> UserStack:
    """`registers` are the hit's, which are the user's where it has no frames of the kernel."""
    stop_detail, generation, start_stack = content.take(3)
    if head["frame_count"]:
        registers = content.registers(head["user_known"])
    return UserStack(
        registers=registers,
        known=head["user_known"],
        chain=tuple(content.take(head["user_frame_count"])),
        stop=head["user_stop"],
        stop_detail=stop_detail,
        generation=generation,
        start_stack=start_stack,
        flags=head["flags"],
    )


def _flat(rest: memoryview, expected: bool) -> list[StackSlice]:
    """The flat copy, which the rest of the record is; where its limit ended it, it is cut."""
    if not expected and not len(rest):
        return []
    if not expected or len(rest) < layout.FLAT_SIZE:
        raise HitRecordError
    address, asked, copied = np.frombuffer(rest, layout.FLAT_DTYPE, 1)[0].item()
    if layout.FLAT_SIZE + copied != len(rest):
        raise HitRecordError
    return [StackSlice(address, bytes(rest[layout.FLAT_SIZE :]), copied == asked)]
