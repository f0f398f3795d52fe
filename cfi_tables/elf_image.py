"""ELF images: the header tables, sections and segments of one file, read without copying it.

Owns the container format (System V gABI, chapters 4 and 5): 32 and 64 bits, either byte order, files without
section headers, compressed sections. Data comes from a mapped file or from bytes (the vdso) and goes to
whoever reads a section. Everything is checked against the size of the file, so that a damaged one gives an
`ElfError` that names the section and never an error of the machinery below.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ET_REL = 1
ET_EXEC = 2
ET_DYN = 3
ET_CORE = 4
EM_386 = 3
EM_X86_64 = 62
EM_AARCH64 = 183
PT_LOAD = 1
PT_DYNAMIC = 2
PT_NOTE = 4
PT_GNU_EH_FRAME = 0x6474E550
PF_X = 1
SHT_NOBITS = 8
SHT_NOTE = 7
SHF_ALLOC = 0x2
SHF_EXECINSTR = 0x4
SHF_COMPRESSED = 0x800
SHN_XINDEX = 0xFFFF
PN_XNUM = 0xFFFF

_NT_GNU_BUILD_ID = 3
_ELFCOMPRESS_ZLIB = 1
_ELFCOMPRESS_ZSTD = 2
_MAXIMUM_RATIO = 1100  # zlib cannot expand further (1032), and no debug information does by zstd
_PIECE_IN, _PIECE_OUT = 1 << 18, 1 << 20  # bytes that are decompressed at a time, and that this gives at most
_ALWAYS_ALLOWED = 1 << 20  # bytes that anything may expand to

# struct formats without the byte order, by class: file header after e_ident, section header, program header,
# compression header (the 64-bit one has a reserved word).
_HEADER = {False: "HHIIIIIHHHHHH", True: "HHIQQQIHHHHHH"}
_SECTION = {False: "IIIIIIIIII", True: "IIQQQQIIQQ"}
_SEGMENT = {False: "IIIIIIII", True: "IIQQQQQQ"}
_COMPRESSION = {False: "III", True: "IIQQ"}


class ElfError(Exception):
    """An ELF file cannot be read; the text names the file, the section, and what to do."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section header; the fields are the gABI's sh_*."""

    name: str
    index: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    entry_size: int
    alignment: int
    link: int
    info: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One program header; the fields are the gABI's p_*."""

    type: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int


class ElfImage:
    """One ELF file, opened by `ElfImage.open` or `ElfImage.from_bytes`; mapped while it is referred to."""

    def __init__(self, data: Any, path: str) -> None:
        self.path = path
        self._data = data
        self._bytes = memoryview(data)
        self._cache: dict[str, NDArray[np.uint8]] = {}
        self.machine: int
        self.is_64bit: bool
        self.little_endian: bool
        self.file_type: int
        self.entry: int
        self.segments: list[Segment] = []
        self.section_list: list[Section] = []
        """All sections by index, those with the same name too."""
        self.sections: dict[str, Section] = {}
        """Sections by name in file order; of several with one name the first."""
        self._read_headers()
        self.build_id: bytes | None = self._find_build_id()

    @classmethod
    def open(cls, path: str | Path) -> ElfImage:
        """Map the file at `path`. Raises ElfError for what is no sound ELF file, OSError from opening."""
        name = str(path)
        with open(path, "rb") as file:
            try:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:
                raise ElfError(f"{name}: the file is empty, no ELF file") from None
        return cls(data, name)

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> ElfImage:
        """An image held in memory, such as the vdso. Raises ElfError."""
        return cls(data, name)

    @cached_property
    def data(self) -> NDArray[np.uint8]:
        """The whole file."""
        import numpy as np  # not above: whoever needs headers alone does without

        return np.frombuffer(self._bytes, dtype=np.uint8)

    @property
    def byte_order(self) -> str:
        """ "<" or ">", as struct and NumPy name it."""
        return "<" if self.little_endian else ">"

    @property
    def address_size(self) -> int:
        """4 or 8 bytes."""
        return 8 if self.is_64bit else 4

    # --- headers

    def _error(self, what: str) -> ElfError:
        return ElfError(f"{self.path}: {what}; the file is truncated or damaged, install it again")

    def _read_headers(self) -> None:
        identification = bytes(self._bytes[:16])
        if identification[:4] != b"\x7fELF":
            raise ElfError(f"{self.path}: no ELF file (it does not begin with \\x7fELF); name a program or library")
        if len(identification) < 16 or identification[4] not in (1, 2) or identification[5] not in (1, 2):
            raise self._error("ELF identification has an unknown class or byte order")
        self.is_64bit = identification[4] == 2
        self.little_endian = identification[5] == 1
        layout = struct.Struct(self.byte_order + _HEADER[self.is_64bit])
        if len(self._bytes) < 16 + layout.size:
            raise self._error("ELF header ends behind the end of the file")
        fields = layout.unpack(self._bytes[16 : 16 + layout.size].tobytes())
        self.file_type, self.machine, _, self.entry, program_offset, section_offset = fields[:6]
        _, _, program_size, program_count, section_size, section_count, names_index = fields[6:]
        if section_offset:
            names_index, program_count = self._read_sections(
                section_offset, section_size, section_count, names_index, program_count
            )
        if program_count:
            for row in self._table("program headers", "segment", program_offset, program_size, program_count):
                if self.is_64bit:
                    kind, flags, offset, address, _, file_size, memory_size, _ = row
                else:
                    kind, offset, address, _, file_size, memory_size, flags, _ = row
                self.segments.append(Segment(kind, flags, offset, address, file_size, memory_size))

    def _table(self, what: str, kind: str, offset: int, size: int, count: int) -> Iterator[tuple[int, ...]]:
        formats = _SECTION if kind == "section" else _SEGMENT
        layout = struct.Struct(self.byte_order + formats[self.is_64bit])
        if size != layout.size:
            raise self._error(f"{what} have entries of {size} bytes, not {layout.size}")
        end = offset + size * count
        if end > len(self._bytes):
            raise self._error(f"{what} end at byte {end}, the file at {len(self._bytes)}")
        return layout.iter_unpack(self._bytes[offset:end].tobytes())

    def _read_sections(self, offset: int, size: int, count: int, names: int, programs: int) -> tuple[int, int]:
        # Section 0 holds the numbers that do not fit the file header (gABI, "Extended section numbering").
        first = next(self._table("section headers", "section", offset, size, 1))
        count = count or first[5]
        if names == SHN_XINDEX:
            names = first[6]
        if programs == PN_XNUM:
            programs = first[7]
        rows = list(self._table("section headers", "section", offset, size, count))
        if names >= len(rows) and rows:
            raise self._error(f"section name table has index {names} of {len(rows)}")
        strings = b""
        if rows:
            start, length = rows[names][4], rows[names][5]
            if start + length > len(self._bytes) and rows[names][1] != SHT_NOBITS:
                raise self._error("section name table (.shstrtab) ends behind the end of the file")
            strings = self._bytes[start : start + length].tobytes()
        for index, row in enumerate(rows):
            end = strings.find(b"\0", row[0])
            name = strings[row[0] : end].decode("utf-8", "replace") if end >= 0 else ""
            section = Section(
                name=name, index=index, type=row[1], flags=row[2], address=row[3], offset=row[4],
                size=row[5], link=row[6], info=row[7], alignment=row[8], entry_size=row[9],
            )  # fmt: skip
            self.section_list.append(section)
            if index:
                self.sections.setdefault(name, section)
        return names, programs

    # --- contents

    def has(self, name: str) -> bool:
        """Whether a section of that name holds bytes in this file (.zdebug_ counts for .debug_)."""
        section = self._find(name)
        return section is not None and section.type != SHT_NOBITS and section.size > 0

    def _find(self, name: str) -> Section | None:
        section = self.sections.get(name)
        if section is None and name.startswith(".debug_"):
            section = self.sections.get(".z" + name[1:])
        return section

    def section_data(self, name: str) -> NDArray[np.uint8]:
        """The contents of a section, decompressed, kept for the next call; empty for SHT_NOBITS.

        Raises ElfError when there is no such section, it lies outside of the file or cannot be decompressed.
        """
        found = self._cache.get(name)
        if found is None:
            section = self._find(name)
            if section is None:
                raise ElfError(f"{self.path}: no section {name}; ask `has` first")
            found = self._cache[name] = self.contents(section)
        return found

    def contents(self, section: Section) -> NDArray[np.uint8]:
        """The contents of `section`, decompressed. Not kept. Raises ElfError."""
        import numpy as np

        if section.type == SHT_NOBITS:
            return np.zeros(0, dtype=np.uint8)
        end = section.offset + section.size
        if end > len(self._bytes):
            raise self._error(f"section {section.name} ends at byte {end}, the file at {len(self._bytes)}")
        raw = self.data[section.offset : end]
        if section.flags & SHF_COMPRESSED:
            return self._decompress_section(section.name, raw)
        if section.name.startswith(".zdebug_") and raw[:4].tobytes() == b"ZLIB":
            size = int.from_bytes(raw[4:12].tobytes(), "big")
            return self._decompress(section.name, _ELFCOMPRESS_ZLIB, raw[12:], size)
        return raw

    def _decompress_section(self, name: str, raw: NDArray[np.uint8]) -> NDArray[np.uint8]:
        layout = struct.Struct(self.byte_order + _COMPRESSION[self.is_64bit])
        if len(raw) < layout.size:
            raise self._error(f"section {name} is too short for its compression header")
        fields = layout.unpack(raw[: layout.size].tobytes())
        return self._decompress(name, fields[0], raw[layout.size :], fields[-2])

    def _decompress(self, name: str, method: int, raw: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
        limit = len(raw) * _MAXIMUM_RATIO + _ALWAYS_ALLOWED
        if size > limit:
            raise self._error(f"section {name} says it expands from {len(raw)} to {size} bytes")
        if method == _ELFCOMPRESS_ZLIB:
            import zlib

            try:
                return self._inflated(name, zlib.decompressobj(), raw, size)
            except zlib.error as error:
                raise self._error(f"section {name} cannot be decompressed (zlib: {error})") from None
        elif method == _ELFCOMPRESS_ZSTD:
            from cfi_tables.zstd_stream import expand_zstd

            try:
                found = expand_zstd(raw.tobytes(), size)
            except ValueError as error:
                raise self._error(f"section {name} cannot be decompressed (zstd: {error})") from None
            if found is None:
                raise self._error(f"section {name} expands to more than the {size} bytes that its header says")
            data = found
        else:
            raise ElfError(
                f"{self.path}: section {name} is compressed by method {method}, which is not known; "
                "rewrite it with `objcopy --decompress-debug-sections`"
            )
        if len(data) != size:
            raise self._error(f"section {name} expands to {len(data)} bytes, its header says {size}")
        import numpy as np

        return np.frombuffer(data, dtype=np.uint8)

    def _inflated(self, name: str, expander: Any, raw: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
        """What zlib's `expander` makes of `raw`: `size` bytes, put in place piece by piece so that no copy is made."""
        import numpy as np

        data = np.empty(size, dtype=np.uint8)
        done = 0
        for begin in range(0, len(raw), _PIECE_IN):
            rest = raw[begin : begin + _PIECE_IN].data
            while rest and not expander.eof:
                piece = expander.decompress(rest, _PIECE_OUT)
                if done + len(piece) > size:
                    raise self._error(f"section {name} expands to more than the {size} bytes that its header says")
                data[done : done + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
                done += len(piece)
                rest = expander.unconsumed_tail
        while done < size and not expander.eof and (piece := expander.flush(_PIECE_OUT)):
            data[done : done + len(piece)] = np.frombuffer(piece[: size - done], dtype=np.uint8)
            done += len(piece)
        if done != size:
            raise self._error(f"section {name} expands to {done} bytes, its header says {size}")
        data.flags.writeable = False
        return data

    # --- addresses

    def address_to_offset(self, address: int) -> int | None:
        """The file offset that PT_LOAD segments map to virtual `address`, None when no file byte is there."""
        for segment in self.segments:
            if segment.type == PT_LOAD and 0 <= address - segment.address < segment.file_size:
                return address - segment.address + segment.offset
        return None

    def offset_to_address(self, offset: int) -> int | None:
        """The virtual address at which PT_LOAD segments map file byte `offset`, None when none does.

        An executable segment is preferred where several map the same byte.
        """
        found: int | None = None
        for segment in self.segments:
            if segment.type == PT_LOAD and 0 <= offset - segment.offset < segment.file_size:
                address = offset - segment.offset + segment.address
                if segment.flags & PF_X:
                    return address
                found = address if found is None else found
        return found

    def read(self, address: int, size: int) -> bytes:
        """Up to `size` bytes of file contents at virtual `address`; b"" where no file byte is mapped."""
        parts: list[bytes] = []
        while size > 0:
            for segment in self.segments:
                inside = address - segment.address
                if segment.type == PT_LOAD and 0 <= inside < segment.file_size:
                    length = min(size, segment.file_size - inside)
                    start = segment.offset + inside
                    parts.append(self._bytes[start : start + length].tobytes())
                    break
            else:
                break
            if len(parts[-1]) < length:
                break
            address += length
            size -= length
        return b"".join(parts)

    # --- notes

    def _find_build_id(self) -> bytes | None:
        places = [(s.offset, s.size) for s in self.section_list if s.type == SHT_NOTE]
        places += [(s.offset, s.file_size) for s in self.segments if s.type == PT_NOTE]
        for offset, size in places:
            found = build_id_of_notes(self._bytes[offset : offset + size].tobytes(), self.byte_order)
            if found is not None:
                return found
        return None


def build_id_of_notes(data: bytes, byte_order: str) -> bytes | None:
    """The build-id among notes (a note section, or what /sys/kernel/notes holds); None without one."""
    for name, kind, description in _notes(data, byte_order):
        if kind == _NT_GNU_BUILD_ID and name == b"GNU\0" and description:
            return description
    return None


def _notes(data: bytes, byte_order: str) -> Iterator[tuple[bytes, int, bytes]]:
    position = 0
    layout = struct.Struct(byte_order + "III")
    while position + 12 <= len(data):
        name_size, description_size, kind = layout.unpack_from(data, position)
        start = position + 12
        description = start + (name_size + 3 & ~3)
        end = description + description_size
        if end > len(data):
            return
        yield data[start : start + name_size], kind, data[description:end]
        position = end + 3 & ~3
