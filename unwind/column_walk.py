"""The walk of samples that lie in a mapped capture, as a hot loop: rows of `perf_scan` in, places out.

The frames and reasons are those of `unwind.walk`, which does every step that is not the common one; see `place_table`.
"""

from __future__ import annotations

from cfi_tables.hot_loop import FlatArray, hot_loop, wrap64
from cfi_tables.layout import (
    STOP_REASON_END_OF_STACK,
    STOP_REASON_MEMORY_NOT_CAPTURED,
    STOP_REASON_NO_MAPPING,
    STOP_REASON_NO_REGISTERS,
    STOP_REASON_NO_ROW,
    STOP_REASON_NO_TABLE,
    STOP_REASON_OVERFLOW,
    STOP_REASON_RETURN_TRAMPOLINE,
    STOP_REASON_STACK_CUT,
    STOP_REASON_TOO_DEEP,
)
from cfi_tables.scalars import fetch_ahead, item, put_item, read_i64
from relay_reader.perf_scan import (
    LAYOUT_PLACES,
    LAYOUT_WIDTH,
    ROW_EVENT,
    ROW_KNOWN,
    ROW_REGISTERS,
    ROW_STACK,
    ROW_STACK_BYTES,
    ROW_STACK_CUT,
    ROW_TASK,
    ROW_WIDTH,
)
from unwind.memory import SLICE_WIDTH
from unwind.outer_frames import (
    KEPT_SLOTS,
    NO_ROOM,
    frame_above,
    is_kept,
    judge,
    keep,
    kept_count,
    note_frame,
    note_step,
    take_frames,
)
from unwind.place_table import (
    PLACE_CFA_OFFSET,
    PLACE_CFA_REGISTER,
    PLACE_PLAN,
    PLACE_RETURN_OFFSET,
    PLACE_SAVED,
    PLACE_WIDTH,
    PLACE_WORDS,
    PLAN_END,
    PLAN_FOLLOW,
    PLAN_NO_MAPPING,
    PLAN_NO_ROW,
    PLAN_NO_TABLE,
    PLAN_OVERFLOW,
    PLAN_STEP,
    PLAN_TRAMPOLINE,
    fill_place,
    find_place,
)
from unwind.walk import (
    CALLEE_SAVED,
    FRAME_WIDTH,
    NO_PREVIOUS_CFA,
    REGISTER_COUNT,
    RETURN_ADDRESS,
    SCRATCH_WIDTH,
    STACK_POINTER,
    STATE_CARRIED,
    STATE_DETAIL,
    STATE_EXACT,
    STATE_FRAMES,
    STATE_KNOWN,
    STATE_ON_DEMAND,
    STATE_PREVIOUS_CFA,
    STATE_WIDTH,
    find_mapping,
    walk,
)

# The elements of the control array (int64).
WALK_SAMPLE = 0
"""The next sample to walk."""
WALK_LAST = 1
"""The sample behind the last one."""
WALK_FRAMES = 2
"""Frames written."""
WALK_PLACES = 3
"""Places known."""
WALK_DEPTH = 4
"""Frames a stack may have."""
WALK_STATUS = 5
WALK_CONTROL_WIDTH = 6

WALKED = 0
FRAMES_FULL = 1
PLACES_FULL = 2

_NO_PLACE = -1
_NO_PLACE_ROOM = -2
"""Also what a stack comes to that begins again when there is room for another place."""

# The parts of the scratch array (int64).
_SCRATCH_STATE = 0
_SCRATCH_SLICE = STATE_WIDTH
_SCRATCH_FRAME = _SCRATCH_SLICE + SLICE_WIDTH
_SCRATCH_WALK = _SCRATCH_FRAME + FRAME_WIDTH
WALK_SCRATCH_WIDTH = _SCRATCH_WALK + SCRATCH_WIDTH

_CACHE_LINE = 64
_FETCHED_STACK = 1024
"""Bytes of a stack that are fetched ahead; most walks read no more."""
_FAR = 1 << 62
"""Addresses that this much above or below zero are left to `unwind.walk`: sums of offsets might leave the range."""


@hot_loop
def _load_sample(
    data: FlatArray, layouts: FlatArray, rows: FlatArray, row: int, state: FlatArray, piece: FlatArray
) -> int:
    """Begin the walk of a sample: its registers and state, its stack as the one slice `piece`; the number of slices."""
    first = item(rows, row + ROW_REGISTERS)
    places = item(rows, row + ROW_EVENT) * LAYOUT_WIDTH + LAYOUT_PLACES
    for register in range(REGISTER_COUNT):
        place = item(layouts, places + register)
        put_item(state, register, read_i64(data, first + 8 * place) if place >= 0 else 0)
    state[STATE_KNOWN] = rows[row + ROW_KNOWN]
    state[STATE_EXACT] = 1
    state[STATE_PREVIOUS_CFA] = NO_PREVIOUS_CFA
    state[STATE_ON_DEMAND] = 0
    state[STATE_FRAMES] = 0
    state[STATE_CARRIED] = 0
    state[STATE_DETAIL] = 0
    piece[0] = state[STACK_POINTER]
    piece[1] = rows[row + ROW_STACK]
    piece[2] = rows[row + ROW_STACK_BYTES]
    piece[3] = rows[row + ROW_STACK_CUT]
    return 1 if piece[2] > 0 else 0


@hot_loop
def _fetch_sample(data: FlatArray, rows: FlatArray, row: int) -> None:
    """Have what the walk of a sample reads first fetched meanwhile: nothing of it is in a cache."""
    at = item(rows, row + ROW_REGISTERS)
    for line in range(at, at + 8 * REGISTER_COUNT, _CACHE_LINE):
        fetch_ahead(data, line)
    at = item(rows, row + ROW_STACK)
    for line in range(at, at + min(item(rows, row + ROW_STACK_BYTES), _FETCHED_STACK), _CACHE_LINE):
        fetch_ahead(data, line)


@hot_loop
def _new_place(
    arena: FlatArray,
    mappings: FlatArray,
    mapping_modules: FlatArray,
    mapping: int,
    pc: int,
    key: int,
    slot: int,
    slots: FlatArray,
    places: FlatArray,
    control: FlatArray,
) -> int:
    """Enter the place of `pc`, which lies in `mapping`, into this free slot: its number, or _NO_PLACE_ROOM."""
    place: int = control[WALK_PLACES] + 0
    if (place + 1) * PLACE_WIDTH > len(places) or 2 * place >= len(slots):
        return _NO_PLACE_ROOM
    fill_place(arena, mappings, mapping_modules, mapping, pc, key, places, place)
    slots[slot] = place + 1
    control[WALK_PLACES] = place + 1
    return place


@hot_loop
def _end(plan: int, place: int, frames: FlatArray, depth: int, first: int, last: int) -> tuple[int, int]:
    """(stop reason, index after the frames) of a stack that ends at this place, or that has no room for a frame."""
    if plan == PLAN_NO_MAPPING and depth > first:
        return STOP_REASON_NO_MAPPING, depth
    if depth >= last:
        return STOP_REASON_TOO_DEEP, depth
    if plan == PLAN_TRAMPOLINE:
        return STOP_REASON_RETURN_TRAMPOLINE, depth
    put_item(frames, depth, place)
    if plan == PLAN_END:
        return STOP_REASON_END_OF_STACK, depth + 1
    if plan == PLAN_NO_ROW:
        return STOP_REASON_NO_ROW, depth + 1
    if plan == PLAN_NO_TABLE:
        return STOP_REASON_NO_TABLE, depth + 1
    return STOP_REASON_OVERFLOW if plan == PLAN_OVERFLOW else STOP_REASON_NO_MAPPING, depth + 1


@hot_loop
def _follow(data: FlatArray, places: FlatArray, at: int, state: FlatArray, piece: FlatArray) -> int:
    """Make the step that the place at `at` has unpacked: 1, or 0 with nothing changed when it is one for `walk`.

    -1: the return address was not copied; STATE_DETAIL says where it is.
    """
    register = item(places, at + PLACE_CFA_REGISTER)
    known = item(state, STATE_KNOWN)
    base = item(state, register)
    if (known >> register) & 1 == 0 or base >= _FAR or base <= -_FAR:
        return 0
    cfa = base + item(places, at + PLACE_CFA_OFFSET)
    if cfa <= item(state, STATE_PREVIOUS_CFA):
        return 0
    low = item(piece, 0)
    high = low + (item(piece, 2) - 8)
    shift = item(piece, 1) - low
    address = cfa + item(places, at + PLACE_RETURN_OFFSET)
    if address < low or address > high:
        put_item(state, STATE_DETAIL, address)
        return -1
    exact = item(state, STATE_EXACT)
    pointer = item(state, STACK_POINTER)
    put_item(state, RETURN_ADDRESS, read_i64(data, address + shift))
    known &= CALLEE_SAVED
    words = at + PLACE_WORDS
    for index in range(words, words + item(places, at + PLACE_SAVED)):
        word = item(places, index)
        saved = word & 31
        address = cfa + (word >> 5)
        if exact == 1 and address < pointer and (known >> saved) & 1:
            # It was popped already (see `unwind.walk`).
            continue
        if address < low or address > high:
            known &= ~(1 << saved)
        else:
            put_item(state, saved, read_i64(data, address + shift))
            known |= 1 << saved
    put_item(state, STACK_POINTER, cfa)
    put_item(state, STATE_KNOWN, known | (1 << STACK_POINTER) | (1 << RETURN_ADDRESS))
    put_item(state, STATE_EXACT, 0)
    put_item(state, STATE_PREVIOUS_CFA, cfa)
    return 1


@hot_loop
def _walk_one(
    data: FlatArray,
    arena: FlatArray,
    mappings: FlatArray,
    mapping_modules: FlatArray,
    first_mapping: int,
    last_mapping: int,
    mapping_set: int,
    slice_count: int,
    slots: FlatArray,
    places: FlatArray,
    control: FlatArray,
    frames: FlatArray,
    first: int,
    last: int,
    kept: FlatArray,
    slot: int,
    scratch: FlatArray,
) -> tuple[int, int]:
    """Walk the stack that `_load_sample` has begun; (stop reason or _NO_PLACE_ROOM, index after its frames)."""
    state = scratch[_SCRATCH_STATE:_SCRATCH_SLICE]
    piece = scratch[_SCRATCH_SLICE:_SCRATCH_FRAME]
    frame = scratch[_SCRATCH_FRAME:_SCRATCH_WALK]
    rest = scratch[_SCRATCH_WALK:]
    near = -_FAR < piece[0] < _FAR and slice_count == 1
    count = kept_count(kept, slot, mapping_set) if near else 0
    notes = near and count == 0
    if notes:
        # What is there is overwritten from now on, and the walk may have to begin again.
        keep(kept, slot, 0, mapping_set)
    nearest = 0
    taken = 0
    noted = 0
    depth = first
    while True:
        pc = item(state, RETURN_ADDRESS)
        exact = item(state, STATE_EXACT)
        if pc == 0 and depth > first and exact == 0:
            state[STATE_DETAIL] = 0
            reason = STOP_REASON_END_OF_STACK
            break
        # Only what a step from such a frame does is noted: its stack pointer is the CFA of the frame before.
        plain = exact == 0 and item(state, STACK_POINTER) == item(state, STATE_PREVIOUS_CFA)
        if plain and nearest < count:
            nearest = frame_above(kept, slot, nearest, count, item(state, STACK_POINTER))
            if is_kept(kept, slot, nearest, count, state):
                reached = take_frames(kept, slot, nearest, count, data, piece, state, frames, depth, last)
                if reached > depth:
                    nearest += reached - depth
                    taken += reached - depth
                    depth = reached
                    continue
        key = mapping_set * 2 + exact
        place = find_place(places, slots, pc, key)
        if place < 0:
            mapping = find_mapping(mappings, first_mapping, last_mapping, pc if exact else wrap64(pc - 1))
            if mapping >= 0 or depth == first:
                place = _new_place(
                    arena, mappings, mapping_modules, mapping, pc, key, -1 - place, slots, places, control
                )
                if place == _NO_PLACE_ROOM:
                    return _NO_PLACE_ROOM, first
            else:
                place = _NO_PLACE
        at = place * PLACE_WIDTH
        plan = item(places, at + PLACE_PLAN) if place >= 0 else PLAN_NO_MAPPING
        if plan > PLAN_STEP or depth >= last:
            state[STATE_DETAIL] = pc
            reason, depth = _end(plan, place, frames, depth, first, last)
            break
        put_item(frames, depth, place)
        depth += 1
        step = 0
        if plan == PLAN_FOLLOW and near:
            if notes and plain:
                note_frame(kept, slot, noted, state)
            step = _follow(data, places, at, state, piece)
        if step < 0:
            beyond = state[STATE_DETAIL] >= piece[0] and piece[3] != 0
            reason = STOP_REASON_STACK_CUT if beyond else STOP_REASON_MEMORY_NOT_CAPTURED
            break
        if step == 0:
            noted = 0
            state[STATE_FRAMES] = depth - 1 - first
            reason, _ = walk(
                arena, mappings, first_mapping, last_mapping, data, piece, 0, slice_count,
                state, frame, 0, 1, rest[0:0], rest,
            )  # fmt: skip
            if reason != STOP_REASON_TOO_DEEP:
                break
        elif notes and plain:
            following = note_step(kept, slot, noted, places, place, at, state)
            if following == NO_ROOM:
                keep(kept, slot, noted, mapping_set)
                notes = False
            else:
                noted = following
    if notes:
        note_frame(kept, slot, noted, state)
        keep(kept, slot, noted, mapping_set)
    else:
        judge(kept, slot, taken, depth - first)
    return reason, depth


@hot_loop
def walk_rows(
    data: FlatArray,
    layouts: FlatArray,
    rows: FlatArray,
    sets: FlatArray,
    arena: FlatArray,
    mappings: FlatArray,
    mapping_modules: FlatArray,
    mapping_ends: FlatArray,
    slots: FlatArray,
    places: FlatArray,
    control: FlatArray,
    frames: FlatArray,
    ends: FlatArray,
    reasons: FlatArray,
    details: FlatArray,
    kept: FlatArray,
    scratch: FlatArray,
) -> None:
    """Walk the samples that `control` names, until all are walked or an array is full (WALK_STATUS).

    `data` bytes; `rows` and `layouts` as in `perf_scan`; `sets` int64: for each sample the number of its set of
    mappings, whose last mapping `mapping_ends` (int64) tells; `mapping_modules` int64; `slots` int32; `places` int64;
    `frames` int32; for each sample `ends` (int64), `reasons` (int32), `details` (int64); `kept` int64, KEPT_WIDTH,
    zeros at first; `scratch` int64, WALK_SCRATCH_WIDTH.
    """
    state = scratch[_SCRATCH_STATE:_SCRATCH_SLICE]
    piece = scratch[_SCRATCH_SLICE:_SCRATCH_FRAME]
    capacity = len(frames)
    depth_limit = control[WALK_DEPTH] + 0
    depth = control[WALK_FRAMES] + 0
    sample = control[WALK_SAMPLE] + 0
    status = WALKED
    while sample < control[WALK_LAST]:
        row = sample * ROW_WIDTH
        reason = STOP_REASON_NO_REGISTERS
        end = depth
        detail = 0
        if sample + 1 < control[WALK_LAST]:
            _fetch_sample(data, rows, row + ROW_WIDTH)
        if item(rows, row + ROW_KNOWN) != 0:
            slice_count = _load_sample(data, layouts, rows, row, state, piece)
            number = item(sets, sample)
            last = min(depth + depth_limit, capacity)
            reason, end = _walk_one(
                data, arena, mappings, mapping_modules,
                item(mapping_ends, number - 1) if number > 0 else 0, item(mapping_ends, number), number,
                slice_count, slots, places, control, frames, depth, last,
                kept, (item(rows, row + ROW_TASK) >> 32) & (KEPT_SLOTS - 1), scratch,
            )  # fmt: skip
            detail = item(state, STATE_DETAIL)
            if reason == _NO_PLACE_ROOM:
                status = PLACES_FULL
                break
            if reason == STOP_REASON_TOO_DEEP and last == capacity and end - depth < depth_limit:
                status = FRAMES_FULL
                break
        depth = end
        ends[sample] = end
        reasons[sample] = reason
        details[sample] = detail
        sample += 1
    control[WALK_SAMPLE] = sample
    control[WALK_FRAMES] = depth
    control[WALK_STATUS] = status
