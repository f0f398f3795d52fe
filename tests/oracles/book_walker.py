"""Walking a recorded stack by the book: obvious and slow, with `call_frame_interpreter` and pyelftools.

It shares no code with the tables or the walk: each frame's FDE is found by .eh_frame_hdr (LSB Core §10.6.2), its rules
are read from .eh_frame, and its registers recovered as DWARF 5 §6.4.4 says. x86-64 only.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

from elftools.elf.elffile import ELFFile
from oracles.call_frame_interpreter import (
    AT_CFA,
    CFA_PLUS,
    EXPRESSION,
    IN_REGISTER,
    SAME,
    UNDEFINED,
    VAL_EXPRESSION,
    DamagedEntryError,
    Fde,
    Setting,
    State,
    read_fde,
)

_MASK = (1 << 64) - 1
_RSP, _PC = 7, 16
_KEPT = (3, 6, 12, 13, 14, 15)
"""What a called function keeps: rbx, rbp, r12-r15 (System V ABI AMD64, 3.2.1)."""

END, CUT, NO_CODE, NO_RULE, NO_MEMORY, UNKNOWN = "end", "cut", "no code", "no rule", "no memory", "unknown register"


@dataclass(frozen=True)
class Area:
    """One executable mapping."""

    start: int
    end: int
    offset: int
    path: str


@dataclass(frozen=True)
class StackCopy:
    """The recorded part of the stack."""

    address: int
    data: bytes
    cut: bool


class _StopError(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _File:
    """One ELF file with its call frame information."""

    def __init__(self, content: bytes) -> None:
        elf = ELFFile(BytesIO(content))
        self.segments = [
            (each["p_offset"], each["p_filesz"], each["p_vaddr"])
            for each in elf.iter_segments()
            if each["p_type"] == "PT_LOAD" and each["p_flags"] & 1
        ]
        frame, header = elf.get_section_by_name(".eh_frame"), elf.get_section_by_name(".eh_frame_hdr")
        self.frame_address = frame["sh_addr"] if frame else 0
        self._frame = frame.data() if frame else b""
        self._setting = Setting(is_eh=True, address=self.frame_address, address_size=8)
        self._starts: list[int] = []
        self._entries: list[int] = []
        self._read: dict[int, Fde | None] = {}
        if header is not None:
            data, base = header.data(), header["sh_addr"]
            # Version 1, a signed 32-bit pointer to .eh_frame, a 32-bit count, a table relative to the header.
            assert data[:4] == b"\x01\x1b\x03\x3b", data[:4].hex()
            (count,) = struct.unpack_from("<I", data, 8)
            rows = list(struct.iter_unpack("<ii", data[12 : 12 + 8 * count]))
            self._starts = [base + start for start, _ in rows]
            self._entries = [base + entry for _, entry in rows]

    def address(self, offset: int) -> int | None:
        """The file virtual address of a byte of the file's code."""
        for start, size, address in self.segments:
            if start <= offset < start + size:
                return int(address + offset - start)
        return None

    def fde(self, address: int) -> Fde | None:
        """The FDE that covers an address."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        if index not in self._read:
            try:
                offset = self._entries[index] - self.frame_address
                self._read[index] = read_fde(self._frame, offset, self._setting)
            except DamagedEntryError:
                self._read[index] = None
        fde = self._read[index]
        return fde if fde is not None and fde.start <= address < fde.end else None


@lru_cache(maxsize=32)
def _file(path: str) -> _File:
    with open(path, "rb") as file:
        return _File(file.read())


def walk(
    registers: Sequence[int], stack: StackCopy, areas: Sequence[Area], vdso: bytes | None = None, most: int = 100_000
) -> tuple[list[int], str]:
    """(pcs, innermost first; why there are no more) from all 17 registers in DWARF order.

    `vdso` is the content of what is mapped as [vdso].
    """
    state: dict[int, int] = dict(enumerate(registers))
    pcs: list[int] = []
    exact = True
    try:
        while len(pcs) < most:
            pc = state[_PC]
            looked_up = pc if exact else pc - 1
            area = next((each for each in areas if each.start <= looked_up < each.end), None)
            if area is None:
                raise _StopError(NO_CODE)
            pcs.append(pc)
            fde, rules = _rules(area, looked_up, vdso)
            state = _caller(state, rules, stack)
            exact = fde.cie.signal
    except _StopError as stop:
        return pcs, stop.reason
    return pcs, "too deep"


def _rules(area: Area, pc: int, vdso: bytes | None) -> tuple[Fde, State]:
    """The FDE at a run-time pc and the rules in force there."""
    if area.path == "[vdso]":
        if vdso is None:
            raise _StopError(NO_RULE)
        file = _vdso(vdso)
    elif area.path.startswith("/") and not area.path.startswith("//"):
        file = _file(area.path)
    else:
        raise _StopError(NO_RULE)
    address = file.address(pc - area.start + area.offset)
    fde = file.fde(address) if address is not None else None
    if address is None or fde is None:
        raise _StopError(NO_RULE)
    return fde, [rules for start, rules in fde.rows if start <= address][-1]


@lru_cache(maxsize=2)
def _vdso(content: bytes) -> _File:
    return _File(content)


def _word(stack: StackCopy, address: int) -> int:
    at = address - stack.address
    if at >= 0 and at + 8 <= len(stack.data):
        return int.from_bytes(stack.data[at : at + 8], "little")
    raise _StopError(CUT if stack.cut and at >= 0 else NO_MEMORY)


def _register(state: dict[int, int], number: int) -> int:
    if number not in state:
        raise _StopError(UNKNOWN)
    return state[number]


def _caller(state: dict[int, int], rules: State, stack: StackCopy) -> dict[int, int]:
    """The registers of the caller."""
    if rules.rules.get(_PC, (SAME, 0))[0] == UNDEFINED:
        raise _StopError(END)
    if rules.cfa is None:
        raise _StopError(NO_RULE)
    if isinstance(rules.cfa, bytes):
        cfa = _evaluate(rules.cfa, state, stack, None)
    else:
        cfa = _register(state, rules.cfa[0]) + rules.cfa[1] & _MASK
    caller = {number: state[number] for number in _KEPT if number in state}
    caller[_RSP] = cfa
    for number, (kind, value) in rules.rules.items():
        if number > _PC:
            continue
        caller.pop(number, None)
        try:
            caller[number] = _recovered(kind, value, number, cfa, state, stack)
        except _StopError:
            if number == _PC:
                raise
    if _PC not in caller:
        raise _StopError(UNKNOWN)
    return caller


def _recovered(kind: str, value: int | bytes, number: int, cfa: int, state: dict[int, int], stack: StackCopy) -> int:
    if kind == AT_CFA and isinstance(value, int):
        return _word(stack, cfa + value & _MASK)
    if kind == CFA_PLUS and isinstance(value, int):
        return cfa + value & _MASK
    if kind == IN_REGISTER and isinstance(value, int):
        return _register(state, value)
    if kind == SAME:
        return _register(state, number)
    if kind in (EXPRESSION, VAL_EXPRESSION) and isinstance(value, bytes):
        found = _evaluate(value, state, stack, cfa)
        return _word(stack, found) if kind == EXPRESSION else found
    raise _StopError(UNKNOWN)


def _evaluate(program: bytes, state: dict[int, int], stack: StackCopy, first: int | None) -> int:
    """The value of a DWARF expression, of the few operations that call frame information of x86-64 has (§2.5)."""
    values = [] if first is None else [first]
    at = 0

    def leb(signed: bool) -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = program[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value - (1 << shift) if signed and byte & 64 else value

    while at < len(program):
        operation = program[at]
        at += 1
        if operation == 0x06:  # DW_OP_deref
            values.append(_word(stack, values.pop()))
        elif operation in (0x08, 0x0A, 0x0C):  # DW_OP_const1u, 2u, 4u
            size = 1 << (operation - 8) // 2
            values.append(int.from_bytes(program[at : at + size], "little"))
            at += size
        elif operation in (0x09, 0x0B, 0x0D):  # DW_OP_const1s, 2s, 4s
            size = 1 << (operation - 9) // 2
            values.append(int.from_bytes(program[at : at + size], "little", signed=True) & _MASK)
            at += size
        elif 0x30 <= operation <= 0x4F:  # DW_OP_lit0 to 31
            values.append(operation - 0x30)
        elif 0x70 <= operation <= 0x8F:  # DW_OP_breg0 to 31
            values.append(_register(state, operation - 0x70) + leb(True) & _MASK)
        elif operation == 0x23:  # DW_OP_plus_uconst
            values.append(values.pop() + leb(False) & _MASK)
        else:
            right, left = values.pop(), values.pop()
            results = {
                0x1A: left & right,
                0x1C: left - right & _MASK,
                0x22: left + right & _MASK,
                0x24: left << min(right, 64) & _MASK,
                0x2A: int(_signed(left) >= _signed(right)),
            }
            values.append(results[operation])
    return values[-1]


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
