"""The outer frames of an earlier walk, taken over by the next one where all that decides about them is the same.

Samples of one thread share most of their stacks. Where a walk comes to a frame of an earlier one, and there as in each
frame after it the register that the CFA comes from and the return address are the same, these frames are the same too;
comparing takes a fraction of the time of walking. Only steps that a place has unpacked (PLAN_FOLLOW of `place_table`),
and that found all their words, are kept: nothing else decides about these. Registers that they restore are read anew.

What is kept stands in an int64 array of KEPT_SLOTS slots, one for the threads whose numbers end alike. A slot has two
halves: a walk that is kept, and one that is being noted.
"""

from __future__ import annotations

from cfi_tables.hot_loop import FlatArray, hot_loop
from cfi_tables.scalars import item, put_item, read_i64
from unwind.place_table import (
    PLACE_CFA_OFFSET,
    PLACE_CFA_REGISTER,
    PLACE_RETURN_OFFSET,
    PLACE_SAVED,
    PLACE_WORDS,
)
from unwind.walk import RETURN_ADDRESS, STACK_POINTER, STATE_KNOWN, STATE_PREVIOUS_CFA

KEPT_SLOTS = 8
NO_ROOM = -1

_MOST_FRAMES = 512
_MOST_WORDS = 2048
_MOST_POOR = 8

# Columns of a frame (int64): what was known before the step from it, and what the step used.
_FRAME_POINTER = 0
"""The stack pointer, which is the CFA of the frame before: they grow from frame to frame."""
_FRAME_PC = 1
_FRAME_KNOWN = 2
_FRAME_PLACE = 3
_FRAME_REGISTER = 4
"""The register that the CFA comes from,"""
_FRAME_BASE = 5
"""and its value."""
_FRAME_RETURN = 6
"""Where the return address lies, which is the pc of the next frame."""
_FRAME_LOWEST = 7
"""The lowest address that the step read,"""
_FRAME_HIGHEST = 8
"""and the highest."""
_FRAME_WORDS = 9
"""Where the registers begin that the step restored; they end where those of the next frame begin."""
_FRAME_WIDTH = 10

# Columns of a register that a step restored (int64).
_WORD_ADDRESS = 0
_WORD_REGISTER = 1
_WORD_WIDTH = 2

# Parts of a half. Behind the last frame stands what the last step led to, as far as a frame tells it before a step.
_HALF_COUNT = 0
"""How many frames are kept."""
_HALF_SET = 1
"""The number of their set of mappings."""
_HALF_POOR = 2
"""How many walks after each other have taken over less than half of their frames."""
_HALF_FRAMES = 3
_HALF_WORDS = _HALF_FRAMES + (_MOST_FRAMES + 1) * _FRAME_WIDTH
_HALF_WIDTH = _HALF_WORDS + _MOST_WORDS * _WORD_WIDTH

# Parts of a slot: the number of the half that is kept, and both.
_SLOT_HALVES = 1
_SLOT_WIDTH = _SLOT_HALVES + 2 * _HALF_WIDTH
KEPT_WIDTH = KEPT_SLOTS * _SLOT_WIDTH


@hot_loop
def kept_half(kept: FlatArray, slot: int) -> int:
    """Where the half of a slot begins whose walk is kept."""
    begin = slot * _SLOT_WIDTH
    return begin + _SLOT_HALVES + item(kept, begin) * _HALF_WIDTH


@hot_loop
def noted_half(kept: FlatArray, slot: int) -> int:
    """Where the half of a slot begins in which the present walk is noted."""
    begin = slot * _SLOT_WIDTH
    return begin + _SLOT_HALVES + (1 - item(kept, begin)) * _HALF_WIDTH


@hot_loop
def kept_count(kept: FlatArray, half: int, mapping_set: int) -> int:
    """How many frames a half has for walks in this set of mappings."""
    return item(kept, half + _HALF_COUNT) if item(kept, half + _HALF_SET) == mapping_set else 0


@hot_loop
def note_frame(kept: FlatArray, half: int, index: int, state: FlatArray) -> None:
    """Note what is known before the step from the frame `index`."""
    at = half + _HALF_FRAMES + index * _FRAME_WIDTH
    put_item(kept, at + _FRAME_POINTER, item(state, STACK_POINTER))
    put_item(kept, at + _FRAME_PC, item(state, RETURN_ADDRESS))
    put_item(kept, at + _FRAME_KNOWN, item(state, STATE_KNOWN))
    if index == 0:
        put_item(kept, at + _FRAME_WORDS, half + _HALF_WORDS)


@hot_loop
def note_step(kept: FlatArray, half: int, index: int, places: FlatArray, place: int, at: int, state: FlatArray) -> int:
    """Note the step from the frame `index`, which has this place, whose row lies at `at`: how many frames are noted.

    0, none of them is of use, where a word was not there to be read; NO_ROOM where the step is one too many.
    """
    saved = item(places, at + PLACE_SAVED)
    frame = half + _HALF_FRAMES + index * _FRAME_WIDTH
    word = item(kept, frame + _FRAME_WORDS)
    if index >= _MOST_FRAMES or word + saved * _WORD_WIDTH > half + _HALF_WIDTH:
        return NO_ROOM
    cfa = item(state, STACK_POINTER)
    known = item(state, STATE_KNOWN)
    lowest = highest = cfa + item(places, at + PLACE_RETURN_OFFSET)
    put_item(kept, frame + _FRAME_RETURN, lowest)
    for column in range(at + PLACE_WORDS, at + PLACE_WORDS + saved):
        register = item(places, column) & 31
        if (known >> register) & 1 == 0:
            return 0
        address = cfa + (item(places, column) >> 5)
        lowest = min(lowest, address)
        highest = max(highest, address)
        put_item(kept, word + _WORD_ADDRESS, address)
        put_item(kept, word + _WORD_REGISTER, register)
        word += _WORD_WIDTH
    put_item(kept, frame + _FRAME_LOWEST, lowest)
    put_item(kept, frame + _FRAME_HIGHEST, highest)
    put_item(kept, frame + _FRAME_PLACE, place)
    put_item(kept, frame + _FRAME_REGISTER, item(places, at + PLACE_CFA_REGISTER))
    put_item(kept, frame + _FRAME_BASE, cfa - item(places, at + PLACE_CFA_OFFSET))
    put_item(kept, frame + _FRAME_WIDTH + _FRAME_WORDS, word)
    return index + 1


@hot_loop
def frame_above(kept: FlatArray, half: int, index: int, count: int, pointer: int) -> int:
    """The first frame from `index` on whose stack pointer is `pointer` or above; `count` where there is none."""
    at = half + _HALF_FRAMES + index * _FRAME_WIDTH + _FRAME_POINTER
    while index < count and item(kept, at) < pointer:
        index += 1
        at += _FRAME_WIDTH
    return index


@hot_loop
def take_frames(
    kept: FlatArray,
    half: int,
    index: int,
    count: int,
    data: FlatArray,
    piece: FlatArray,
    state: FlatArray,
    frames: FlatArray,
    depth: int,
    last: int,
) -> int:
    """Take over frames from `index` on, as far as they are those of this walk too; the depth behind them.

    They go to `frames` from `depth` on, up to `last`; `state` becomes what it is before the step from the next frame.
    The frame at `index` (up to `count`, behind the last one) is one only with the same stack pointer, pc, and registers
    that are known.
    """
    at = half + _HALF_FRAMES + index * _FRAME_WIDTH
    if (
        index == count
        or item(kept, at + _FRAME_POINTER) != item(state, STACK_POINTER)
        or item(kept, at + _FRAME_PC) != item(state, RETURN_ADDRESS)
        or item(kept, at + _FRAME_KNOWN) != item(state, STATE_KNOWN)
    ):
        return depth
    low = item(piece, 0)
    high = low + (item(piece, 2) - 8)
    shift = item(piece, 1) - low
    end = half + _HALF_FRAMES + count * _FRAME_WIDTH
    while at < end and depth < last:
        following = at + _FRAME_WIDTH
        if item(state, item(kept, at + _FRAME_REGISTER)) != item(kept, at + _FRAME_BASE):
            break
        if item(kept, at + _FRAME_LOWEST) < low or item(kept, at + _FRAME_HIGHEST) > high:
            break
        if read_i64(data, item(kept, at + _FRAME_RETURN) + shift) != item(kept, following + _FRAME_PC):
            break
        for word in range(item(kept, at + _FRAME_WORDS), item(kept, following + _FRAME_WORDS), _WORD_WIDTH):
            value = read_i64(data, item(kept, word + _WORD_ADDRESS) + shift)
            put_item(state, item(kept, word + _WORD_REGISTER), value)
        put_item(state, STACK_POINTER, item(kept, following + _FRAME_POINTER))
        put_item(frames, depth, item(kept, at + _FRAME_PLACE))
        depth += 1
        at = following
    put_item(state, RETURN_ADDRESS, item(kept, at + _FRAME_PC))
    put_item(state, STATE_KNOWN, item(kept, at + _FRAME_KNOWN))
    put_item(state, STATE_PREVIOUS_CFA, item(state, STACK_POINTER))
    return depth


@hot_loop
def end_note(kept: FlatArray, slot: int, count: int, mapping_set: int, taken: int, walked: int) -> None:
    """Decide what is kept after a walk of `walked` frames: `count` frames were noted, or `taken` were taken over."""
    if taken == 0:
        half = noted_half(kept, slot)
        kept[half + _HALF_COUNT] = count
        kept[half + _HALF_SET] = mapping_set
        kept[half + _HALF_POOR] = 0
        kept[slot * _SLOT_WIDTH] = 1 - kept[slot * _SLOT_WIDTH]
        return
    half = kept_half(kept, slot)
    kept[half + _HALF_POOR] = kept[half + _HALF_POOR] + 1 if 2 * taken < walked else 0
    if kept[half + _HALF_POOR] == _MOST_POOR:
        # The next walk is noted as a whole.
        kept[half + _HALF_COUNT] = 0
