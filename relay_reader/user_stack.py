"""The part of a kernel module's record that tells of the user's stack (relay_reader/record_schema.py)."""

from __future__ import annotations

from typing import Any

import numpy as np

from relay_reader import record_layout as layout
from relay_reader.capture import X86_64_REGISTER_COUNT, StackSlice, UserStack

_HEAD_BYTES = layout.USER_STACK_DTYPE.itemsize


class UserStackError(ValueError):
    """The part is damaged."""


def read_user_stack(part: memoryview, head: Any, registers: tuple[int, ...]) -> tuple[UserStack, list[StackSlice]]:
    """What `part`, the end of the record that begins with `head`, holds, and its slices. Raises UserStackError.

    `registers` are the hit's, which are the user's where it has no frames of the kernel.
    """
    if len(part) < _HEAD_BYTES:
        raise UserStackError
    told = np.frombuffer(part, dtype=layout.USER_STACK_DTYPE, count=1)[0]
    if int(told["length"]) != len(part):
        raise UserStackError
    known = int(told["known"])
    numbers = [number for number in range(X86_64_REGISTER_COUNT) if known >> number & 1 and head["frame_count"]]
    words = len(numbers) + int(told["frame_count"])
    slices_start = _HEAD_BYTES + 8 * words
    if slices_start > len(part):
        raise UserStackError
    values = np.frombuffer(part, dtype="<u8", count=words, offset=_HEAD_BYTES).tolist()
    if head["frame_count"]:
        given = dict(zip(numbers, values, strict=False))
        registers = tuple(given.get(number, 0) for number in range(X86_64_REGISTER_COUNT))
    flags = int(head["flags"])
    stack = UserStack(
        registers=registers,
        known=known,
        chain=tuple(values[len(numbers) :]),
        stop=int(told["stop"]),
        stop_detail=int(told["stop_detail"]),
        generation=int(told["generation"]),
        start_stack=int(told["start_stack"]),
        flags=flags,
    )
    return stack, _slices(part, slices_start, int(told["slice_count"]), bool(flags & layout.HIT_FLAG_USER_FLAT))


def _slices(part: memoryview, at: int, count: int, last_is_flat: bool) -> list[StackSlice]:
    """The slices from byte `at` on, which fill the part; only a flat one is cut where its limit was reached."""
    slices: list[StackSlice] = []
    for number in range(count):
        if at + layout.SLICE_SIZE > len(part):
            raise UserStackError
        head = np.frombuffer(part, dtype=layout.SLICE_DTYPE, count=1, offset=at)[0]
        begin = at + layout.SLICE_SIZE
        at = begin + int(head["copied"])
        if at > len(part):
            raise UserStackError
        cut = last_is_flat and number == count - 1 and head["copied"] == head["asked"]
        slices.append(StackSlice(int(head["address"]), bytes(part[begin:at]), cut))
    if at != len(part):
        raise UserStackError
    return slices
