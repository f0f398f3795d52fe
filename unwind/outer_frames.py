"""The outer frames of an earlier walk, taken over by the next one where all that decides about them is the same.

Samples of one thread share most of their stacks. Where a walk comes to a frame of an earlier one, and there as in each
frame after it the register that the CFA comes from and the return address are the same, these frames are the same too;
comparing takes a fraction of the time of walking. Only steps that a place has unpacked (PLAN_FOLLOW of `place_table`),
and that found all their words, are kept: nothing else decides about these. Registers that they restore are read anew.

What is kept stands in an int64 array of KEPT_SLOTS slots, one for the threads whose numbers end alike. A walk is noted
while its slot is free, and kept until several walks after each other have not found it of much use.
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

# Parts of a slot. Behind the last frame stands what the last step led to, as far as a frame tells it before a step.
_SLOT_COUNT = 0
"""How many frames are kept; 0: none."""
_SLOT_SET = 1
"""The number of their set of mappings."""
_SLOT_POOR = 2
"""How many walks after each other have taken over less than half of their frames."""
_SLOT_FRAMES = 3
_SLOT_WORDS = _SLOT_FRAMES + (_MOST_FRAMES + 1) * _FRAME_WIDTH
_SLOT_WIDTH = _SLOT_WORDS + _MOST_WORDS * _WORD_WIDTH
KEPT_WIDTH = KEPT_SLOTS * _SLOT_WIDTH


@hot_loop
def kept_count(kept: FlatArray, slot: int, mapping_set: int) -> int:
    """How many frames a slot has for walks in this set of mappings."""
    begin = slot * _SLOT_WIDTH
    return item(kept, begin + _SLOT_COUNT) if item(kept, begin + _SLOT_SET) == mapping_set else 0


@hot_loop
def note_frame(kept: FlatArray, slot: int, index: int, state: FlatArray) -> None:
    """Note what is known before the step from the frame `index`."""
    at = slot * _SLOT_WIDTH + _SLOT_FRAMES + index * _FRAME_WIDTH
    put_item(kept, at + _FRAME_POINTER, item(state, STACK_POINTER))
    put_item(kept, at + _FRAME_PC, item(state, RETURN_ADDRESS))
    put_item(kept, at + _FRAME_KNOWN, item(state, STATE_KNOWN))
    if index == 0:
        put_item(kept, at + _FRAME_WORDS, slot * _SLOT_WIDTH + _SLOT_WORDS)


@hot_loop
def note_step(kept: FlatArray, slot: int, index: int, places: FlatArray, place: int, at: int, state: FlatArray) -> int:
    """Note the step from the frame `index`, which has this place, whose row lies at `at`: how many frames are noted.

    0, none of them is of use, where a word was not there to be read; NO_ROOM where the step is one too many.
    """
    saved = item(places, at + PLACE_SAVED)
    frame = slot * _SLOT_WIDTH + _SLOT_FRAMES + index * _FRAME_WIDTH
    word = item(kept, frame + _FRAME_WORDS)
    if index >= _MOST_FRAMES or word + saved * _WORD_WIDTH > (slot + 1) * _SLOT_WIDTH:
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
def frame_above(kept: FlatArray, slot: int, index: int, count: int, pointer: int) -> int:
    """The first frame from `index` on whose stack pointer is `pointer` or above; `count` where there is none."""
    at = slot * _SLOT_WIDTH + _SLOT_FRAMES + index * _FRAME_WIDTH + _FRAME_POINTER
    while index < count and item(kept, at) < pointer:
        index += 1
        at += _FRAME_WIDTH
    return index


@hot_loop
def is_kept(kept: FlatArray, slot: int, index: int, count: int, state: FlatArray) -> bool:
    """Whether a walk is at the frame `index`, of `count`: with its stack pointer, pc, and registers that are known."""
    at = slot * _SLOT_WIDTH + _SLOT_FRAMES + index * _FRAME_WIDTH
    return (
        index < count
        and item(kept, at + _FRAME_POINTER) == item(state, STACK_POINTER)
        and item(kept, at + _FRAME_PC) == item(state, RETURN_ADDRESS)
        and item(kept, at + _FRAME_KNOWN) == item(state, STATE_KNOWN)
    )


@hot_loop
def take_frames(
    kept: FlatArray,
    slot: int,
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
    The walk is at the frame `index` (`is_kept`).
    """
    at = slot * _SLOT_WIDTH + _SLOT_FRAMES + index * _FRAME_WIDTH
    low = item(piece, 0)
    high = low + (item(piece, 2) - 8)
    shift = item(piece, 1) - low
    end = slot * _SLOT_WIDTH + _SLOT_FRAMES + count * _FRAME_WIDTH
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
def keep(kept: FlatArray, slot: int, count: int, mapping_set: int) -> None:
    """Keep the `count` frames that were noted."""
    begin = slot * _SLOT_WIDTH
    kept[begin + _SLOT_COUNT] = count
    kept[begin + _SLOT_SET] = mapping_set
    kept[begin + _SLOT_POOR] = 0


@hot_loop
def judge(kept: FlatArray, slot: int, taken: int, walked: int) -> None:
    """Count of how much use the slot was to a walk: `taken` of its `walked` frames were taken over."""
    begin = slot * _SLOT_WIDTH
    kept[begin + _SLOT_POOR] = kept[begin + _SLOT_POOR] + 1 if 2 * taken < walked else 0
    if kept[begin + _SLOT_POOR] == _MOST_POOR:
        # The next walk is noted.
        kept[begin + _SLOT_COUNT] = 0
