"""Functions, files, lines and inlined calls from the table that every Go program carries for its own stack traces.

Owns the format of .gopclntab as the Go runtime documents it (src/runtime/symtab.go, src/internal/abi/symtab.go): the
layouts of Go 1.16, 1.18 and 1.20, told apart by their magic numbers. The table outlives `-ldflags="-s -w"`, which
takes away symbols and DWARF. A table that is damaged or of another layout is data: `problem`.

A function's record names *pc tables*: pairs of varints (change of the value, zigzag; bytes of code), which say what
file, line or inlined call each instruction has. Inlined calls stand in a tree, in read-only data beside the table; its
place, and that of the code, is told by the runtime's `moduledata`, which points to the table.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cfi_tables.elf_image import SHF_ALLOC, SHT_NOBITS, ElfError, ElfImage, Section
from unwind.symbolize.symbol_frame import SymbolFrame

_SECTIONS = (".gopclntab", ".data.rel.ro.gopclntab")
_HOLDER = ".data.rel.ro"
"""Where a linker other than Go's puts the table of a position-independent program."""
_DEEPEST = 1000
"""Calls inlined into each other; more is damage."""
_TOP = 1 << 62
"""Addresses above are no program's."""
_MOST_PIECES = 1 << 18
"""Pieces of one pc table; more is damage."""
_INLINED_CALL = 2
_INLINE_TREE = 3
"""Numbers of a function's table of inlined calls, and of the tree that it points into."""
_NONE = 0xFFFFFFFF
_R_X86_64_RELATIVE = 8


@dataclass(frozen=True, slots=True)
class _Layout:
    """What differs between releases of Go."""

    addresses: bool
    """Functions are listed with addresses of pointer size, else with 32-bit offsets from where the code begins."""
    record: int
    """Bytes of a function's record after its address, up to the tables that it names."""
    tree_entry: int
    """Bytes of an inlined call."""
    name_at: int
    """Where in it the function's name is."""
    parent_at: int
    """Where in it the place of the call is."""
    inline_data: int | None
    """Number of the word of moduledata that offsets of trees count from; None: trees have addresses."""


_LAYOUTS = {
    0xFFFFFFFA: _Layout(True, 36, 20, 12, 16, None),  # Go 1.16, 1.17
    0xFFFFFFF0: _Layout(False, 36, 20, 12, 16, 38),  # Go 1.18, 1.19
    0xFFFFFFF1: _Layout(False, 40, 16, 4, 8, 40),  # Go 1.20 and later
}
_TEXT_WORD, _END_WORD = 22, 23
"""Words of moduledata that hold where the code begins and ends."""


class GoTableError(Exception):
    """The table cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class _Function:
    """One function's record, its pc tables decoded: ends (sorted) and values."""

    entry: int
    name: str
    files: tuple[list[int], list[int]]
    lines: tuple[list[int], list[int]]
    calls: tuple[list[int], list[int]]
    unit: int
    tree: int | None
    """Address of the inline tree."""


class GoTable:
    """The table of one program; made by `open`."""

    def __init__(self, image: ElfImage, address: int, data: memoryview) -> None:
        """Take the table at `address`, which begins with `data`. Raises GoTableError."""
        self.image = image
        self.address = address
        self.problem: str | None = None
        self._data = data
        self._order = image.byte_order
        try:
            (magic,) = struct.unpack_from(f"{self._order}I", data)
            self._quantum, self._pointer = data[6], data[7]
            if magic not in _LAYOUTS or data[4] or data[5] or self._pointer not in (4, 8) or not self._quantum:
                raise GoTableError(
                    f"{image.path}: the line table of its Go release is not known (it begins with {magic:#x})"
                )
            self._layout = _LAYOUTS[magic]
            words = [self._word(8 + self._pointer * index) for index in range(8)]
            self._header_text = 0
            if not self._layout.addresses:
                self._header_text = words.pop(2)
            self._count, _, self._names, self._units, self._file_names, self._pc_tables, self._functions = words[:7]
            if not 0 < self._count < len(data) or max(words[2:7]) >= len(data):
                raise GoTableError(f"{image.path}: its Go line table is damaged (parts lie outside of it)")
        except (struct.error, IndexError):
            raise GoTableError(f"{image.path}: its Go line table is cut short") from None
        self._decoded: dict[int, _Function] = {}

    @classmethod
    def open(cls, image: ElfImage) -> GoTable | None:
        """The table of `image`; None for what is no Go program. Raises GoTableError."""
        try:
            for name in _SECTIONS:
                if image.has(name):
                    return cls(image, image.sections[name].address, memoryview(image.section_data(name).data))
            if image.has(_HOLDER) and (image.has(".go.buildinfo") or image.has(".note.go.buildid")):
                return cls._within(image, image.sections[_HOLDER])
        except ElfError as error:
            raise GoTableError(str(error)) from None
        return None

    @classmethod
    def _within(cls, image: ElfImage, section: Section) -> GoTable | None:
        contents = image.section_data(section.name).tobytes()
        for magic in _LAYOUTS:
            begin = struct.pack(f"{image.byte_order}IH", magic, 0)
            at = contents.find(begin)
            while at >= 0:
                if at % 8 == 0:
                    try:
                        found = cls(image, section.address + at, memoryview(contents)[at:])
                        if found._module_data is not None:
                            return found
                    except GoTableError:
                        pass
                at = contents.find(begin, at + 1)
        return None

    # --- reading

    def _word(self, at: int) -> int:
        """The integer of pointer size at byte `at` of the table."""
        value: int = struct.unpack_from(self._order + ("Q" if self._pointer == 8 else "I"), self._data, at)[0]
        return value

    def _integer(self, at: int) -> int:
        value: int = struct.unpack_from(f"{self._order}I", self._data, at)[0]
        return value

    def _string(self, at: int) -> str:
        """The string at byte `at` of the table, up to its NUL."""
        if not 0 <= at < len(self._data):
            raise IndexError(at)
        step = 64
        while True:
            piece = self._data[at : at + step].tobytes()
            end = piece.find(b"\0")
            if end >= 0:
                return piece[:end].decode("utf-8", "replace")
            if len(piece) < step:
                raise IndexError(at)
            step *= 4

    @cached_property
    def _module_data(self) -> list[int] | None:
        """The first words of the runtime's moduledata: what begins with the table's address and that of its names."""
        size = 41
        kind = np.dtype(f"{self._order}u{self._pointer}")
        for section in self.image.section_list:
            if section.type == SHT_NOBITS or not section.flags & SHF_ALLOC or section.size < size * self._pointer:
                continue
            words = self._relocated(section, kind)
            for at in np.flatnonzero(words[: len(words) - size] == self.address).tolist():
                if int(words[at + 1]) == self.address + self._names:
                    found: list[int] = words[at : at + size].tolist()
                    return found
        return None

    def _relocated(self, section: Section, kind: np.dtype[np.uint64]) -> np.ndarray:
        """The words of a section as the dynamic linker makes them for a program at its own addresses."""
        contents = self.image.contents(section)
        words = contents[: len(contents) // kind.itemsize * kind.itemsize].view(kind)
        if self._pointer == 8 and self._relocations is not None:
            places, addends = self._relocations
            inside = (places >= section.address) & (places < section.address + len(words) * 8) & (places % 8 == 0)
            words = words.copy()
            words[(places[inside] - section.address) // 8] = addends[inside].astype(np.uint64)
        return words

    @cached_property
    def _relocations(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Places and values of R_X86_64_RELATIVE, which GNU ld leaves for the dynamic linker to write."""
        if not self.image.has(".rela.dyn"):
            return None
        data = self.image.section_data(".rela.dyn")
        rows = data[: len(data) // 24 * 24].view(
            np.dtype([(name, f"{self._order}i8") for name in ("at", "info", "add")])
        )
        rows = rows[rows["info"] & 0xFFFFFFFF == _R_X86_64_RELATIVE]
        return rows["at"].astype(np.int64), rows["add"].astype(np.int64)

    @cached_property
    def _text(self) -> int:
        """Where the code begins that offsets of functions count from. Raises GoTableError."""
        if self._layout.addresses:
            return 0
        if self._module_data is not None:
            text = self._module_data[_TEXT_WORD]
            if self._header_text in (0, text) and text < self._module_data[_END_WORD] < _TOP:
                return text
        if 0 < self._header_text < _TOP:  # up to Go 1.25 the table itself tells
            return self._header_text
        raise GoTableError(f"{self.image.path}: its Go line table does not tell where the code begins")

    # --- functions

    @cached_property
    def _list(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each function begins, sorted, with the end behind; and where its record is."""
        width = self._pointer if self._layout.addresses else 4
        data = np.frombuffer(self._data, dtype=np.uint8)[self._functions :]
        kind = np.dtype(f"{self._order}u{width}")
        if len(data) < (2 * self._count + 1) * width:
            raise GoTableError(f"{self.image.path}: its Go line table is cut short")
        words = data[: (2 * self._count + 1) * width].view(kind).astype(np.int64)
        return words[::2] + self._text, words[1::2]

    def _function(self, number: int) -> _Function:
        function = self._decoded.get(number)
        if function is None:
            begins, records = self._list
            at = self._functions + int(records[number])
            at += self._pointer if self._layout.addresses else 4
            name, _, _, _, file, line, tables, unit = (self._integer(at + 4 * index) for index in range(8))
            after = at + self._layout.record
            data_count = self._data[after - 1]
            entry = int(begins[number])
            has_calls = tables > _INLINED_CALL
            calls = self._integer(after + 4 * _INLINED_CALL) if has_calls else 0
            function = self._decoded[number] = _Function(
                entry,
                self._string(self._names + name),
                self._pc_table(file, entry),
                self._pc_table(line, entry),
                self._pc_table(calls, entry),
                unit,
                self._tree(after + 4 * tables) if data_count > _INLINE_TREE else None,
            )
        return function

    def _tree(self, at: int) -> int | None:
        """The address of a function's inline tree, which its data, at byte `at` of the table, points to."""
        if self._layout.inline_data is None:
            at = -(-at // self._pointer) * self._pointer
            return self._word(at + self._pointer * _INLINE_TREE) or None
        offset = self._integer(at + 4 * _INLINE_TREE)
        if offset == _NONE or self._module_data is None:
            return None
        return self._module_data[self._layout.inline_data] + offset

    def _pc_table(self, offset: int, entry: int) -> tuple[list[int], list[int]]:
        """Ends of the pieces of a pc table, and their values; empty for none."""
        ends: list[int] = []
        values: list[int] = []
        if offset == 0:
            return ends, values
        at, value, pc = self._pc_tables + offset, -1, entry
        while True:
            change, at = self._varint(at)
            if change == 0 and ends:
                return ends, values
            value += -(change >> 1) - 1 if change & 1 else change >> 1
            length, at = self._varint(at)
            pc += length * self._quantum
            if len(ends) > _MOST_PIECES:
                raise IndexError(at)
            ends.append(pc)
            values.append(value)

    def _varint(self, at: int) -> tuple[int, int]:
        value = shift = 0
        while shift < 35:
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFF, at
            shift += 7
        raise IndexError(at)

    def _file(self, unit: int, number: int) -> str | None:
        if number < 0 or unit == _NONE:
            return None
        offset = self._integer(self._units + 4 * (unit + number))
        return None if offset == _NONE else self._string(self._file_names + offset)

    # --- frames

    def frames_at(self, address: int) -> list[SymbolFrame]:
        """The frames at `address`, innermost first; [] where no function is, or the table is damaged (`problem`)."""
        try:
            begins, _ = self._list
            if not int(begins[0]) <= address < int(begins[-1]):
                return []
            function = self._function(int(np.searchsorted(begins, address, side="right")) - 1)
            return self._chain(function, address)
        except GoTableError as error:
            self.problem = str(error)
        except (struct.error, IndexError):
            self.problem = f"{self.image.path}: its Go line table is damaged at {address:#x}"
        return []

    def _chain(self, function: _Function, address: int) -> list[SymbolFrame]:
        frames: list[SymbolFrame] = []
        at = address
        while True:
            file = self._file(function.unit, _value(function.files, at))
            line = _value(function.lines, at)
            place = (file, line if line > 0 else None, None)
            call = _value(function.calls, at)
            if call < 0 or function.tree is None:
                offset = address - function.entry
                frames.append(SymbolFrame(function.name, None, offset, *place, False, None, function.entry))
                return frames
            entry = self.image.read(function.tree + call * self._layout.tree_entry, self._layout.tree_entry)
            (name,) = struct.unpack_from(f"{self._order}i", entry, self._layout.name_at)
            (parent,) = struct.unpack_from(f"{self._order}i", entry, self._layout.parent_at)
            at = function.entry + parent
            if len(frames) > _DEEPEST or name < 0 or parent < 0 or at >= function.lines[0][-1]:
                raise IndexError(name)
            frames.append(SymbolFrame(self._string(self._names + name), None, None, *place, True))


def _value(table: tuple[list[int], list[int]], pc: int) -> int:
    """What a pc table says at `pc`, -1 where it says nothing."""
    ends, values = table
    index = bisect_right(ends, pc)
    return values[index] if index < len(values) else -1
