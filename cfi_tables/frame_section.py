"""Call frame sections: the CIEs and FDEs of .eh_frame and .debug_frame (DWARF 5 §6.4.1, LSB Core §10.6).

Owns the entry headers: lengths of the 32- and 64-bit format, augmentations, encoded pointers. Data comes from a
section's bytes; it goes, as int64 columns, to `cfi_program`. An entry that is damaged is left out with a
problem and its offset; the others go on.
"""

from __future__ import annotations

from cfi_tables.hot_loop import FlatArray, hot_loop, wrap64
from cfi_tables.layout import (
    FRAME_PROBLEM_BAD_CIE,
    FRAME_PROBLEM_BAD_POINTER,
    FRAME_PROBLEM_BAD_RANGE,
    FRAME_PROBLEM_NONE,
    FRAME_PROBLEM_TRUNCATED,
    FRAME_PROBLEM_UNKNOWN_AUGMENTATION,
    FRAME_PROBLEM_UNKNOWN_VERSION,
    RULE_FLAG_SIGNAL_FRAME,
    RULE_FLAG_SIGNED_WITH_KEY_B,
)
from cfi_tables.scalars import item, put_item, read_i32, read_i64, read_sleb, read_u8, read_u16, read_u32, read_uleb

# Columns of a CIE.
CIE_OFFSET = 0  # in the section
CIE_PROBLEM = 1
CIE_CODE_ALIGNMENT = 2
CIE_DATA_ALIGNMENT = 3
CIE_RETURN_COLUMN = 4
CIE_POINTER_ENCODING = 5
CIE_FLAGS = 6  # RULE_FLAG
CIE_PROGRAM = 7  # offset of the initial instructions
CIE_PROGRAM_END = 8
CIE_HAS_AUGMENTATION = 9  # FDEs have augmentation data
CIE_COLUMNS = 10

# Columns of an FDE.
FDE_OFFSET = 0
FDE_CIE = 1  # row in the CIE columns
FDE_START = 2  # file virtual address
FDE_END = 3
FDE_PROGRAM = 4
FDE_PROGRAM_END = 5
FDE_COLUMNS = 6

# Columns of a problem.
PROBLEM_OFFSET = 0
PROBLEM_REASON = 1  # FRAME_PROBLEM
PROBLEM_START = 2  # address, 0 when not known
PROBLEM_COLUMNS = 3

# What `entry_header` gives as the kind of an entry.
ENTRY_END = 0
ENTRY_CIE = 1
ENTRY_FDE = 2
ENTRY_TERMINATOR = 3

# Parameters of a section, an int64 array.
SECTION_ADDRESS = 0
SECTION_IS_EH = 1  # 1: .eh_frame, 0: .debug_frame
SECTION_POINTER_SIZE = 2
SECTION_TEXT_BASE = 3  # for DW_EH_PE_textrel
SECTION_DATA_BASE = 4  # for DW_EH_PE_datarel
SECTION_REGISTERS = 5  # how many a rule holds
SECTION_RETURN_COLUMN = 6
SECTION_STACK_POINTER = 7
SECTION_SAME_MASK = 8  # bit r set: the ABI keeps register r unchanged where the CFI says nothing
SECTION_SIGNS_RETURN = 9  # 1: return addresses may be signed (aarch64)
SECTION_COLUMNS = 10

_PE_OMIT = 0xFF
_PE_ABSOLUTE = 0
_PE_RELATIVE_I32 = 0x1B
_MAXIMUM_RANGE = 1 << 40
_MAXIMUM_ALIGNMENT = 1 << 16


@hot_loop
def entry_header(data: FlatArray, at: int, is_eh: int) -> tuple[int, int, int, int, int]:
    """(kind, next entry, position behind the CIE id or pointer, CIE offset, offset size) of the entry at `at`.

    ENTRY_END with next entry -1 when the entry runs behind the section.
    """
    size = len(data)
    if at + 4 > size:
        return ENTRY_END, -1 if at < size else at, at, 0, 4
    length = read_u32(data, at)
    body = at + 4
    offset_size = 4
    if length == 0:
        return ENTRY_TERMINATOR, body, body, 0, 4
    if length == 0xFFFFFFFF:
        if at + 12 > size:
            return ENTRY_END, -1, at, 0, 8
        length = read_i64(data, at + 4)
        body = at + 12
        offset_size = 8
    # .eh_frame's CIE id is 4 bytes in the 64-bit format too (LSB); .debug_frame's is an offset.
    id_size = 4 if is_eh else offset_size
    if length < id_size or length > size - body:
        return ENTRY_END, -1, at, 0, offset_size
    end = body + length
    if id_size == 4:
        identity = read_u32(data, body)
    else:
        identity = read_i64(data, body)
    after = body + id_size
    if is_eh:
        if identity == 0:
            return ENTRY_CIE, end, after, at, offset_size
        return ENTRY_FDE, end, after, body - identity, offset_size
    if identity == (0xFFFFFFFF if id_size == 4 else -1):
        return ENTRY_CIE, end, after, at, offset_size
    return ENTRY_FDE, end, after, identity, offset_size


@hot_loop
def read_pointer(data: FlatArray, at: int, end: int, encoding: int, section: FlatArray) -> tuple[int, int]:
    """(value, next position) of an encoded pointer (LSB Core §10.5.1), position -1 when it cannot be known.

    DW_EH_PE_funcrel cannot: the one encoding of an FDE is that of the function's start as well.
    """
    application = encoding & 0x70
    form = encoding & 15
    pointer_size = section[SECTION_POINTER_SIZE]
    if at < 0 or encoding & 0x80:  # indirect: the pointer lies in memory that only a running program has
        return 0, -1
    if application == 0x50:  # aligned
        address = section[SECTION_ADDRESS] + at
        at += -address & (pointer_size - 1)
        form = 0
    start = at
    size = 8
    if form == 0 or form == 8:
        size = pointer_size
    elif form == 2 or form == 10:
        size = 2
    elif form == 3 or form == 11:
        size = 4
    if form == 1:
        value, at = read_uleb(data, at, end)
    elif form == 9:
        value, at = read_sleb(data, at, end)
    elif at + size > end or (form & 7) > 4:
        return 0, -1
    else:
        at += size
        if size == 2:
            value = read_u16(data, start)
            if form == 10:
                value -= (value & 0x8000) << 1
        elif size == 4:
            value = read_i32(data, start) if form >= 8 else read_u32(data, start)
        else:
            value = read_i64(data, start)
    base = 0
    if application == 0x10:
        base = section[SECTION_ADDRESS] + start
    elif application == 0x20:
        base = section[SECTION_TEXT_BASE]
    elif application == 0x30:
        base = section[SECTION_DATA_BASE]
    elif application == 0x40 or application > 0x50:
        return 0, -1
    value = wrap64(value + base)
    if pointer_size == 4 and application != 0:
        value &= 0xFFFFFFFF  # 32-bit address arithmetic wraps around
    return value, at


@hot_loop
def _augmentation(data: FlatArray, at: int, end: int, text: int, section: FlatArray, cie: FlatArray, row: int) -> int:
    """Decode a "z…" augmentation whose data begins at `at`; gives a FRAME_PROBLEM."""
    index = text + 1
    while 0 + data[index] != 0:
        letter = 0 + data[index]
        index += 1
        if letter == 0x52:  # R: encoding of the FDE's pointers
            if at >= end:
                return FRAME_PROBLEM_TRUNCATED
            cie[row + CIE_POINTER_ENCODING] = read_u8(data, at)
            at += 1
        elif letter == 0x4C:  # L: encoding of the language-specific data area
            at += 1
        elif letter == 0x50:  # P: personality routine; its value does not matter, its size does
            if at >= end:
                return FRAME_PROBLEM_TRUNCATED
            encoding = read_u8(data, at) & 0x7F
            at += 1
            if encoding != (_PE_OMIT & 0x7F):
                # What it is relative to does not matter either, but that it is aligned does.
                form = encoding if encoding & 0x70 == 0x50 else encoding & 15
                _, at = read_pointer(data, at, end, form, section)
                if at < 0:
                    return FRAME_PROBLEM_BAD_POINTER
        elif letter == 0x53:  # S: signal frame
            cie[row + CIE_FLAGS] = cie[row + CIE_FLAGS] | RULE_FLAG_SIGNAL_FRAME
        elif letter == 0x42:  # B: the return address is signed with the B key (aarch64)
            cie[row + CIE_FLAGS] = cie[row + CIE_FLAGS] | RULE_FLAG_SIGNED_WITH_KEY_B
        elif letter == 0x47:  # G: the frame may be tagged memory (aarch64); where it lies does not change
            pass
        else:
            return FRAME_PROBLEM_UNKNOWN_AUGMENTATION
        if at > end:
            return FRAME_PROBLEM_TRUNCATED
    return FRAME_PROBLEM_NONE


@hot_loop
def _read_cie(data: FlatArray, at: int, end: int, section: FlatArray, cie: FlatArray, row: int) -> int:
    """Fill the CIE columns at `row` from the body at `at`; gives a FRAME_PROBLEM."""
    cie[row + CIE_PROGRAM_END] = end
    cie[row + CIE_FLAGS] = 0
    cie[row + CIE_HAS_AUGMENTATION] = 0
    cie[row + CIE_POINTER_ENCODING] = _PE_ABSOLUTE
    if at >= end:
        return FRAME_PROBLEM_TRUNCATED
    version = read_u8(data, at)
    if version != 1 and version != 3 and version != 4:
        return FRAME_PROBLEM_UNKNOWN_VERSION
    text = at + 1
    at = text
    while at < end and 0 + data[at] != 0:
        at += 1
    at += 1
    if version == 4:
        if at + 2 > end:
            return FRAME_PROBLEM_TRUNCATED
        if read_u8(data, at) != section[SECTION_POINTER_SIZE] or read_u8(data, at + 1) != 0:
            return FRAME_PROBLEM_UNKNOWN_VERSION
        at += 2
    code_alignment, at = read_uleb(data, at, end)
    data_alignment, at = read_sleb(data, at, end)
    if at < 0 or at >= end:
        return FRAME_PROBLEM_TRUNCATED
    if code_alignment > _MAXIMUM_ALIGNMENT or abs(data_alignment) > _MAXIMUM_ALIGNMENT:
        return FRAME_PROBLEM_BAD_CIE
    cie[row + CIE_CODE_ALIGNMENT] = code_alignment
    cie[row + CIE_DATA_ALIGNMENT] = data_alignment
    if version == 1:
        column = read_u8(data, at)
        at += 1
    else:
        column, at = read_uleb(data, at, end)
    if at < 0:
        return FRAME_PROBLEM_TRUNCATED
    cie[row + CIE_RETURN_COLUMN] = column
    problem = FRAME_PROBLEM_NONE
    if 0 + data[text] == 0x7A:  # z
        length, at = read_uleb(data, at, end)
        if at < 0 or length > end - at:
            return FRAME_PROBLEM_TRUNCATED
        cie[row + CIE_HAS_AUGMENTATION] = 1
        problem = _augmentation(data, at, at + length, text, section, cie, row)
        at += length
    elif 0 + data[text] != 0:
        # "eh" (gcc 2) and unknown ones: without z the sizes of their fields cannot be known.
        problem = FRAME_PROBLEM_UNKNOWN_AUGMENTATION
    cie[row + CIE_PROGRAM] = at
    return problem


@hot_loop
def scan_cies(data: FlatArray, section: FlatArray, cie: FlatArray) -> tuple[int, int]:
    """Fill the CIE columns in the order of the section; gives how many (CIEs, FDEs) there are.

    When there are more CIEs than `cie` has room for, those beyond are only counted.
    """
    at = 0
    cies = 0
    fdes = 0
    is_eh = item(section, SECTION_IS_EH)
    while True:
        kind, following, body, _, _ = entry_header(data, at, is_eh)
        if kind == ENTRY_END:
            return cies, fdes
        if kind == ENTRY_FDE:
            fdes += 1
        elif kind == ENTRY_CIE:
            row = cies * CIE_COLUMNS
            if row < len(cie):
                cie[row + CIE_OFFSET] = at
                cie[row + CIE_PROBLEM] = _read_cie(data, body, following, section, cie, row)
            cies += 1
        at = following


@hot_loop
def _find_cie(cie: FlatArray, count: int, offset: int) -> int:
    """The CIE at section `offset`, -1 when there is none."""
    low = 0
    high = count
    while low < high:
        middle = (low + high) >> 1
        if cie[middle * CIE_COLUMNS + CIE_OFFSET] < offset:
            low = middle + 1
        else:
            high = middle
    if low < count and cie[low * CIE_COLUMNS + CIE_OFFSET] == offset:
        return low
    return -1


@hot_loop
def _read_fde(data: FlatArray, at: int, end: int, section: FlatArray, cie: FlatArray, fde: FlatArray, row: int) -> int:
    """Fill the FDE columns at `row` from the body at `at`, FDE_CIE being set; gives a FRAME_PROBLEM."""
    cie_row = item(fde, row + FDE_CIE) * CIE_COLUMNS
    encoding = item(cie, cie_row + CIE_POINTER_ENCODING)
    if encoding == _PE_RELATIVE_I32 and section[SECTION_POINTER_SIZE] == 8 and at + 8 <= end:  # what compilers write
        start = wrap64(section[SECTION_ADDRESS] + at + read_i32(data, at))
        length = read_i32(data, at + 4)
        at += 8
    else:
        start, at = read_pointer(data, at, end, encoding, section)
        # The range has the form of the encoding, and no base.
        length, at = read_pointer(data, at, end, encoding & 15, section)
    put_item(fde, row + FDE_START, start)
    if at < 0:
        return FRAME_PROBLEM_BAD_POINTER
    if item(cie, cie_row + CIE_HAS_AUGMENTATION):
        skip, at = read_uleb(data, at, end)
        if at < 0 or skip > end - at:
            return FRAME_PROBLEM_TRUNCATED
        at += skip
    if length <= 0 or length > _MAXIMUM_RANGE or wrap64(start + length) < start:
        return FRAME_PROBLEM_BAD_RANGE
    put_item(fde, row + FDE_END, start + length)
    put_item(fde, row + FDE_PROGRAM, at)
    put_item(fde, row + FDE_PROGRAM_END, end)
    return FRAME_PROBLEM_NONE


@hot_loop
def scan_fdes(
    data: FlatArray,
    section: FlatArray,
    cie: FlatArray,
    cie_count: int,
    fde: FlatArray,
    problems: FlatArray,
) -> tuple[int, int, int]:
    """Fill the FDE columns and the problems in the order of the section; gives (FDE, problem, CIE count).

    With a CIE count of -1, CIEs are read on the way; the FDE count is -1 where that does not do, since there is no room
    in the columns, or an FDE has a CIE that has not been met before.
    A zero length does not end the section: linkers leave some between the parts that they join.
    """
    at = 0
    count = 0
    problem_count = 0
    cached = -1
    is_eh = item(section, SECTION_IS_EH)
    on_the_way = cie_count < 0
    if on_the_way:
        cie_count = 0
    while True:
        kind, following, body, cie_offset, _ = entry_header(data, at, is_eh)
        if kind == ENTRY_END:
            if following < 0:
                problems[problem_count * PROBLEM_COLUMNS + PROBLEM_OFFSET] = at
                problems[problem_count * PROBLEM_COLUMNS + PROBLEM_REASON] = FRAME_PROBLEM_TRUNCATED
                problems[problem_count * PROBLEM_COLUMNS + PROBLEM_START] = 0
                problem_count += 1
            return count, problem_count, cie_count
        if kind == ENTRY_FDE:
            if cached < 0 or item(cie, cached * CIE_COLUMNS + CIE_OFFSET) != cie_offset:
                cached = _find_cie(cie, cie_count, cie_offset)
            row = count * FDE_COLUMNS
            # A last line of each is kept for the problem of a section's end.
            if on_the_way and (cached < 0 or (count + problem_count + 2) * FDE_COLUMNS > len(fde)):
                return -1, 0, cie_count
            put_item(fde, row + FDE_OFFSET, at)
            put_item(fde, row + FDE_CIE, cached)
            put_item(fde, row + FDE_START, 0)
            problem = FRAME_PROBLEM_BAD_CIE
            if cached >= 0:
                problem = item(cie, cached * CIE_COLUMNS + CIE_PROBLEM)
            if problem == FRAME_PROBLEM_NONE:
                problem = _read_fde(data, body, following, section, cie, fde, row)
            if problem == FRAME_PROBLEM_NONE:
                count += 1
            else:
                problems[problem_count * PROBLEM_COLUMNS + PROBLEM_OFFSET] = at
                problems[problem_count * PROBLEM_COLUMNS + PROBLEM_REASON] = problem
                problems[problem_count * PROBLEM_COLUMNS + PROBLEM_START] = fde[row + FDE_START]
                problem_count += 1
        elif on_the_way and kind == ENTRY_CIE:
            row = cie_count * CIE_COLUMNS
            if row == len(cie):
                return -1, 0, cie_count
            cie[row + CIE_OFFSET] = at
            cie[row + CIE_PROBLEM] = _read_cie(data, body, following, section, cie, row)
            cie_count += 1
        at = following
