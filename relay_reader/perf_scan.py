"""Scanning of perf records in place, as a hot loop: one row of int64 values a record, nothing copied.

Owns where the parts of a sample lie, told from the bytes alone: what `perf_record.RecordDecoder` does with objects
(linux/perf_event.h, enum perf_event_type), for whole files at machine speed. Both say the same of every record, damaged
ones included. Other records are rows too, with their time, and are for that decoder.
"""

from __future__ import annotations

from cfi_tables.hot_loop import FlatArray, hot_loop
from cfi_tables.scalars import fetch_ahead, item, read_i64, read_u16, read_u32
from relay_reader.perf_record import (
    RECORD_SAMPLE,
    SAMPLE_BRANCH_STACK,
    SAMPLE_CALLCHAIN,
    SAMPLE_RAW,
    SAMPLE_READ,
    SAMPLE_STACK_USER,
)
from relay_reader.perf_record_stream import (
    AUXTRACE,
    COMPRESSED,
    COMPRESSED2,
    FINISHED_ROUND,
    FIRST_USER_RECORD,
    HEADER_ATTR,
    HEADER_TRACING_DATA,
    KIND_LIMIT,
)
from relay_reader.perf_side_band import MISC_CPUMODE, MISC_KERNEL

# Columns of a row (int64).
ROW_AT = 0
"""Where the record begins."""
ROW_KIND = 1
"""Its type (enum perf_event_type)."""
ROW_TIME = 2
"""Nanoseconds as a 64-bit pattern; 0 when it has none, or is too short to tell."""
ROW_TASK = 3
"""Of a sample, as all that follows: the process below the thread, 32 bits each."""
ROW_CPU = 4
"""-1: not told."""
ROW_EVENT = 5
"""Index of its event's layout."""
ROW_FAULT = 6
"""The bits of what is wrong with it, SOUND (0) for nothing."""
ROW_KNOWN = 7
"""Bit r: register r of `relay_reader.capture` was recorded; 0: the sample has no user registers."""
ROW_REGISTERS = 8
"""Where the recorded registers lie; which of them are which, the layout says."""
ROW_STACK = 9
"""Where the copy of the stack begins, from the stack pointer on."""
ROW_STACK_BYTES = 10
"""How many bytes of it were copied; 0: none."""
ROW_STACK_CUT = 11
"""1: the limit ended the copy, not the stack."""
ROW_CHAIN = 12
"""Where the recorded call chain begins."""
ROW_CHAIN_COUNT = 13
"""How many words it has."""
ROW_KERNEL_PC = 14
"""Where the interrupted pc lies, when it is one of the kernel's, else 0."""
ROW_WEIGHT = 15
"""Its period, or that of all samples of its event; 1 where that is 0."""
ROW_WIDTH = 16

SOUND = 0
TRUNCATED = 1
UNKNOWN_EVENT = 2
COMPAT_REGISTERS = 4
"""Registers of a 32-bit process, which objects have and columns have not."""
GUEST = 8
DEFERRED_CHAIN = 16
UNKNOWN_REGISTERS = 32
NO_SAMPLE = TRUNCATED | UNKNOWN_EVENT
"""What of these leaves no sample; the others leave one without user registers, or without a part of its chain."""

# Columns of an event's layout (int64).
LAYOUT_TYPE = 0
"""attr.sample_type."""
LAYOUT_HEAD = 1
"""Bytes up to the first part of variable size, the record's header included."""
LAYOUT_IP = 2
"""Where this field lies, as the next ones; -1: the samples have none."""
LAYOUT_TASK = 3
LAYOUT_TIME = 4
LAYOUT_CPU = 5
LAYOUT_READ_FIXED = 6
"""Bytes of what was read of the counters, where each sample has as much, or of what stands before a group."""
LAYOUT_READ_EACH = 7
"""Bytes for each member of a group; 0: there is none."""
LAYOUT_BRANCH_HEAD = 8
"""Bytes before the first branch of a branch stack,"""
LAYOUT_BRANCH_EACH = 9
"""and of each branch."""
LAYOUT_REGISTERS = 10
"""How many registers are recorded; -1: the samples have no part for them."""
LAYOUT_KNOWN = 11
LAYOUT_TRAILER_TIME = 12
"""Where the time lies in other records, counted from their end (negative); 0: they have none."""
LAYOUT_PERIOD = 13
"""Where the field lies; -1: the samples have none, or it is not asked for."""
LAYOUT_PLACES = 14
"""For each register of `relay_reader.capture` its index among those recorded, or -1."""
LAYOUT_WEIGHT = 31
"""What each sample stands for, where LAYOUT_PERIOD is -1."""
LAYOUT_WIDTH = 32

# The elements of the control array (int64): what a scan begins with, and how it ended.
CONTROL_AT = 0
"""Where the next record begins."""
CONTROL_END = 1
"""Where the records end."""
CONTROL_ROWS = 2
CONTROL_ROUNDS = 3
CONTROL_NOTES = 4
CONTROL_STATE = 5
"""One of the SCAN values."""
CONTROL_SAMPLE_ID = 6
"""Where the event's id lies in samples, -1: in none."""
CONTROL_TRAILER_ID = 7
"""Where it lies in other records, counted from their end (negative); 0: in none."""
CONTROL_DEFAULT = 8
"""Index of the layout for unknown ids, -1: such a sample cannot be read."""
CONTROL_WIDTH = 9

SCAN_MORE = 0
"""It stopped where it was told to."""
SCAN_DONE = 1
SCAN_CUT_SHORT = 2
SCAN_BAD_SIZE = 3
SCAN_PACKED = 4
"""The next record has to be unpacked first."""

_RECORDS_AHEAD = 3
_FETCHED_HEAD = 128
_CACHE_LINE = 64
_HEADER = 8
_MISC_USER = 2
_MISC_GUEST_KERNEL = 4
_MISC_GUEST_USER = 5
_STACK_POINTER_BIT = 1 << 7
_RETURN_ADDRESS_BIT = 1 << 16
_ABI_32 = 1
_ABI_64 = 2

# enum perf_callchain_context
_CONTEXT_LOWEST = -4095
_CONTEXT_KERNEL = -128
_CONTEXT_USER_DEFERRED = -640
_CONTEXT_GUEST_KERNEL = -2176
_CONTEXT_GUEST_USER = -2560


@hot_loop
def _layout_index(ids: FlatArray, number: int, default: int) -> int:
    """The layout of the event `number`: `ids` holds the sorted ids, then their layouts."""
    low = 0
    high = len(ids) // 2
    count = high
    while low < high:
        middle = (low + high) // 2
        if item(ids, middle) < number:
            low = middle + 1
        else:
            high = middle
    if low < count and item(ids, low) == number:
        return item(ids, count + low)
    return default


@hot_loop
def _time_of_other(data: FlatArray, at: int, size: int, layouts: FlatArray, ids: FlatArray, control: FlatArray) -> int:
    """The time in the trailer of a record that is no sample, 0 where there is none."""
    layout = 0
    if control[CONTROL_TRAILER_ID] < 0:
        place = size + control[CONTROL_TRAILER_ID]
        # Before the record's first byte positions count from its end, as struct's do.
        if place < 0:
            place += size
        if place < 0 or place + 8 > size:
            return 0
        layout = _layout_index(ids, read_i64(data, at + place), 0)
    distance: int = item(layouts, layout * LAYOUT_WIDTH + LAYOUT_TRAILER_TIME)
    if distance == 0:
        return 0
    place = size + distance
    if place < 0:
        place += size
    if place < 0 or place + 8 > size:
        return 0
    return read_i64(data, at + place)


@hot_loop
def _after_counted(data: FlatArray, at: int, size: int, position: int, first: int, each: int) -> int:
    """Position behind a part that begins with a count: `first` bytes, and `each` for all it counts; -1: too long."""
    if position + 8 > size:
        return -1
    count = read_i64(data, at + position)
    if count < 0 or count > size:
        return -1
    return position + first + each * count


@hot_loop
def _variable_parts(
    data: FlatArray, at: int, size: int, layouts: FlatArray, base: int, rows: FlatArray, row: int
) -> int:
    """Note the call chain of a sample; the position behind its parts of variable size, -1 when they are too long."""
    kind = item(layouts, base + LAYOUT_TYPE)
    position = item(layouts, base + LAYOUT_HEAD)
    if kind & SAMPLE_READ:
        each = item(layouts, base + LAYOUT_READ_EACH)
        step = item(layouts, base + LAYOUT_READ_FIXED)
        if each > 0:
            if position + 8 > size:
                return -1
            count = read_i64(data, at + position)
            step = step + each * count if 0 <= count <= size else size
        position += min(step, size)
    if kind & SAMPLE_CALLCHAIN:
        end = _after_counted(data, at, size, position, 8, 8)
        if end < 0 or end > size:
            return -1
        rows[row + ROW_CHAIN] = at + position + 8
        rows[row + ROW_CHAIN_COUNT] = (end - position - 8) // 8
        position = end
    if kind & SAMPLE_RAW:
        if position + 4 > size:
            return -1
        position += 4 + read_u32(data, at + position)
    if kind & SAMPLE_BRANCH_STACK:
        head = item(layouts, base + LAYOUT_BRANCH_HEAD)
        position = _after_counted(data, at, size, position, head, item(layouts, base + LAYOUT_BRANCH_EACH))
    if position > size:
        return -1
    return position


@hot_loop
def _chain_faults(data: FlatArray, at: int, count: int) -> int:
    """GUEST and DEFERRED_CHAIN, as far as the marks in a call chain say so."""
    faults = 0
    for place in range(at, at + 8 * count, 8):
        word = read_i64(data, place)
        if _CONTEXT_LOWEST <= word < 0:
            if word == _CONTEXT_GUEST_KERNEL or word == _CONTEXT_GUEST_USER:
                faults |= GUEST
            elif word == _CONTEXT_USER_DEFERRED:
                faults |= DEFERRED_CHAIN
    return faults


@hot_loop
def _user_stack(data: FlatArray, at: int, size: int, position: int, rows: FlatArray, row: int) -> int:
    """Note where the copied stack lies; a fault."""
    if position + 8 > size:
        return TRUNCATED
    reserved = read_i64(data, at + position)
    position += 8
    if reserved == 0:
        return SOUND
    if reserved < 0 or reserved > size or position + reserved + 8 > size:
        return TRUNCATED
    used = read_i64(data, at + position + reserved)
    if used < 0 or used > reserved:
        return TRUNCATED
    rows[row + ROW_STACK] = at + position
    rows[row + ROW_STACK_BYTES] = used
    rows[row + ROW_STACK_CUT] = 1 if used == reserved else 0
    return SOUND


@hot_loop
def _sample(
    data: FlatArray,
    at: int,
    size: int,
    layouts: FlatArray,
    ids: FlatArray,
    control: FlatArray,
    rows: FlatArray,
    row: int,
) -> int:
    """Fill the row of the sample at `at`; a fault."""
    layout = 0
    place = control[CONTROL_SAMPLE_ID] + 0
    if place >= 0:
        if place + 8 > size:
            return TRUNCATED
        layout = _layout_index(ids, read_i64(data, at + place), control[CONTROL_DEFAULT] + 0)
    if layout < 0:
        return UNKNOWN_EVENT
    base = layout * LAYOUT_WIDTH
    rows[row + ROW_EVENT] = layout
    if item(layouts, base + LAYOUT_HEAD) > size:
        return TRUNCATED
    if item(layouts, base + LAYOUT_TIME) >= 0:
        rows[row + ROW_TIME] = read_i64(data, at + item(layouts, base + LAYOUT_TIME))
    if item(layouts, base + LAYOUT_TASK) >= 0:
        rows[row + ROW_TASK] = read_i64(data, at + item(layouts, base + LAYOUT_TASK))
    if item(layouts, base + LAYOUT_CPU) >= 0:
        rows[row + ROW_CPU] = read_u32(data, at + item(layouts, base + LAYOUT_CPU))
    position = _variable_parts(data, at, size, layouts, base, rows, row)
    if position < 0:
        return TRUNCATED
    rows[row + ROW_WEIGHT] = layouts[base + LAYOUT_WEIGHT]
    place = item(layouts, base + LAYOUT_PERIOD)
    if place >= 0:
        period = read_i64(data, at + place)
        rows[row + ROW_WEIGHT] = period if period != 0 else 1
    mode = read_u16(data, at + 4) & MISC_CPUMODE
    ip = item(layouts, base + LAYOUT_IP)
    if ip >= 0 and (mode == MISC_KERNEL or mode == _MISC_GUEST_KERNEL):
        rows[row + ROW_KERNEL_PC] = at + ip
    faults = _chain_faults(data, rows[row + ROW_CHAIN] + 0, rows[row + ROW_CHAIN_COUNT] + 0)
    if faults & GUEST or mode == _MISC_GUEST_KERNEL or mode == _MISC_GUEST_USER:
        # Its registers and stack the host does not see.
        return GUEST
    count = item(layouts, base + LAYOUT_REGISTERS)
    if count < 0:
        if ip >= 0 and mode == _MISC_USER:
            rows[row + ROW_KNOWN] = _RETURN_ADDRESS_BIT
            rows[row + ROW_REGISTERS] = at + ip
        return faults
    if position + 8 > size:
        return faults | TRUNCATED
    abi = read_i64(data, at + position)
    position += 8
    if abi != _ABI_64:
        if abi == _ABI_32:
            return faults | COMPAT_REGISTERS
        return faults if abi == 0 else faults | UNKNOWN_REGISTERS
    if position + 8 * count > size:
        return faults | TRUNCATED
    known = item(layouts, base + LAYOUT_KNOWN)
    rows[row + ROW_KNOWN] = known
    rows[row + ROW_REGISTERS] = at + position
    if item(layouts, base + LAYOUT_TYPE) & SAMPLE_STACK_USER and known & _STACK_POINTER_BIT:
        return faults | _user_stack(data, at, size, position + 8 * count, rows, row)
    return faults


@hot_loop
def _payload(data: FlatArray, at: int, kind: int, size: int, room: int) -> int:
    """Bytes that follow the record at `at` and are not in its size; -1 when there are more than `room`."""
    length = 0
    # A trace itself follows its record, which tells only its size.
    if kind == AUXTRACE and size >= 16:
        length = read_i64(data, at + 8)
    elif kind == HEADER_TRACING_DATA and size >= 12:
        length = (read_u32(data, at + 8) + 7) & ~7
    return length if 0 <= length <= room else -1


@hot_loop
def scan_records(
    data: FlatArray,
    layouts: FlatArray,
    ids: FlatArray,
    control: FlatArray,
    limit: int,
    rows: FlatArray,
    rounds: FlatArray,
    notes: FlatArray,
) -> None:
    """Scan records from CONTROL_AT on, until one begins behind `limit`, an array is full, or there are no more.

    `data` bytes; `layouts` int64, LAYOUT_WIDTH an event; `ids` as in `_layout_index`; `rows` int64, ROW_WIDTH a record
    of the kernel's; `rounds` int64: the number of rows before each end of a round of perf's; `notes` int64: where
    perf's other records begin. `control` tells how many there are of each, and why there are no more.
    """
    capacity = len(rows) // ROW_WIDTH
    at = control[CONTROL_AT] + 0
    end = control[CONTROL_END] + 0
    count = 0
    round_count = 0
    note_count = 0
    state = SCAN_MORE
    while True:
        if at + _HEADER > end:
            state = SCAN_DONE if at == end else SCAN_CUT_SHORT
            break
        if at >= limit or count == capacity or round_count == len(rounds) or note_count == len(notes):
            break
        kind = read_u32(data, at)
        size = read_u16(data, at + 6)
        # The kernel's records are whole words; of perf's own some are not.
        if size < _HEADER or (size & 7 != 0 and kind < FIRST_USER_RECORD) or kind == 0 or kind >= KIND_LIMIT:
            state = SCAN_BAD_SIZE
            break
        if at + size > end:
            state = SCAN_CUT_SHORT
            break
        if kind == COMPRESSED or kind == COMPRESSED2 or kind == HEADER_ATTR:
            state = SCAN_PACKED
            break
        if kind == FINISHED_ROUND:
            rounds[round_count] = count
            round_count += 1
        elif kind < FIRST_USER_RECORD:
            row = count * ROW_WIDTH
            for column in range(row, row + ROW_WIDTH):
                rows[column] = 0
            rows[row + ROW_AT] = at
            rows[row + ROW_KIND] = kind
            rows[row + ROW_CPU] = -1
            if kind == RECORD_SAMPLE:
                # Samples are mostly of one size: what is read of a later one, its beginning and its last word.
                ahead = at + _RECORDS_AHEAD * size
                for line in range(ahead, ahead + _FETCHED_HEAD, _CACHE_LINE):
                    fetch_ahead(data, line)
                fetch_ahead(data, ahead + size - 8)
                fault = _sample(data, at, size, layouts, ids, control, rows, row)
                rows[row + ROW_FAULT] = fault
            else:
                rows[row + ROW_TIME] = _time_of_other(data, at, size, layouts, ids, control)
            count += 1
        else:
            notes[note_count] = at
            note_count += 1
        length = _payload(data, at, kind, size, end - at - size)
        at += size
        if length < 0:
            state = SCAN_CUT_SHORT
            at = end
            break
        at += length
    control[CONTROL_AT] = at
    control[CONTROL_ROWS] = count
    control[CONTROL_ROUNDS] = round_count
    control[CONTROL_NOTES] = note_count
    control[CONTROL_STATE] = state


@hot_loop
def kernel_chains(data: FlatArray, rows: FlatArray, ends: FlatArray, addresses: FlatArray) -> int:
    """Write the kernel's addresses of each sample in `rows`, innermost first, and where they end; how many there are.

    What `addresses` has no room for is only counted. The chain's context markers (enum perf_callchain_context) say
    which words are the kernel's; without any, the interrupted pc is what is known.
    """
    total = 0
    room = len(addresses)
    for sample in range(len(ends)):
        row = sample * ROW_WIDTH
        before = total
        marked = False
        in_kernel = False
        at = rows[row + ROW_CHAIN] + 0
        for place in range(at, at + 8 * rows[row + ROW_CHAIN_COUNT], 8):
            address = read_i64(data, place)
            if _CONTEXT_LOWEST <= address < 0:
                marked = True
                in_kernel = address == _CONTEXT_KERNEL or address == _CONTEXT_GUEST_KERNEL
            elif in_kernel or (not marked and address < 0):
                if total < room:
                    addresses[total] = address
                total += 1
        if total == before and rows[row + ROW_KERNEL_PC] != 0:
            if total < room:
                addresses[total] = read_i64(data, rows[row + ROW_KERNEL_PC] + 0)
            total += 1
        ends[sample] = total
    return total
