"""Reading of ELF core files into the Capture model: those of the kernel and of gdb's gcore, plain or packed.

Owns the container (gABI and core(5)): program headers, notes and memory. It yields one sample a thread, the one that
the signal stopped first. Memory is not copied: a sample reads it from the file when it is asked for. What was not
dumped on purpose, because a file holds it (`left_to_file`), is told apart from what the core file lacks.

Offsets, sizes and counts are those of the file and are believed only as far as the file goes. `faults` counts what
could not be read.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from os import PathLike

from relay_reader import core_note as N
from relay_reader.capture import Event, Mapping, MappingAdded, Sample, ThreadNamed
from relay_reader.core_layout import CoreLayout, layout_of, machine_name, supported
from relay_reader.elf_container import ELF_MAGIC, IDENTIFICATION_SIZE, ElfClass, ProgramHeader, build_id_in, elf_class
from relay_reader.packed_file import open_unpacked

_NOTE = struct.Struct("<III")
_ET_CORE = 4
_EM_AARCH64 = 183
_PT_LOAD, _PT_NOTE = 1, 4
_PF_X = 1
_PN_XNUM = 0xFFFF
_LARGEST_NOTES = 1 << 28
_MOST_SEGMENTS = 1 << 20
_LARGEST_VDSO = 1 << 20


class CoreFileError(Exception):
    """The file cannot be read; the text says why, and what to do instead."""


class CoreFault(Enum):
    """What of a core file could not be read; the rest stands."""

    PACKING_DAMAGED = "the packed file is damaged or cut short"
    HEADERS_CUT_SHORT = "the file ends inside its program headers"
    NOTES_CUT_SHORT = "the file ends inside its notes"
    BAD_NOTE = "a note does not hold what its type says"
    MEMORY_CUT_SHORT = "the file ends before memory that its headers announce"
    SEGMENTS_OVERLAP = "two headers announce the same memory"


@dataclass(frozen=True, slots=True)
class _Segment:
    """A PT_LOAD: `[start, end)`, of which the file holds `stored` bytes at `offset`."""

    start: int
    end: int
    offset: int
    stored: int
    dumped: int
    """Bytes that the writer meant to store; more than `stored` where the file is cut short."""
    executable: bool


class CoreFile:
    """One open core file.

    Raises CoreFileError for a file that is not a readable core file at all, OSError when it cannot be opened.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = str(path)
        self.faults: Counter[CoreFault] = Counter()
        unpacked = open_unpacked(self.path)
        self._file = unpacked.file
        self._size = self._file.seek(0, os.SEEK_END)
        if unpacked.damage is not None:
            self.faults[CoreFault.PACKING_DAMAGED] += 1
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; samples cannot read memory any more."""
        self._file.close()

    # --- the container

    def _read(self) -> None:
        self._segments: list[_Segment] = []
        self.threads: list[tuple[N.ThreadStatus, dict[int, bytes] | None]] = []
        self.mapped_files: list[N.MappedFile] = []
        self.auxiliary_vector: dict[int, int] = {}
        self.signature_mask: int | None = None
        """The bits of a return address that its signature takes, where the core file tells (aarch64)."""
        self.pid = 0
        self.name = ""
        notes: list[tuple[int, int]] = []
        loads: list[_Segment] = []
        for each in self._program_headers():
            if each.kind == _PT_NOTE:
                notes.append((each.offset, each.file_size))
            elif each.kind == _PT_LOAD and each.memory_size:
                whole = min(each.file_size, each.memory_size)
                stored = max(0, min(whole, self._size - each.offset))
                self.faults[CoreFault.MEMORY_CUT_SHORT] += stored < whole
                end = min(each.address + each.memory_size, 1 << 8 * self.layout.word_size)
                executable = bool(each.flags & _PF_X)
                loads.append(_Segment(each.address, end, each.offset, stored, each.file_size, executable))
        for segment in sorted(loads, key=lambda each: each.start):
            if self._segments and segment.start < self._segments[-1].end:
                self.faults[CoreFault.SEGMENTS_OVERLAP] += 1
            else:
                self._segments.append(segment)
        self._starts = [segment.start for segment in self._segments]
        for offset, size in notes:
            for kind, data in self._notes(offset, size):
                try:
                    self._note(kind, data)
                except N.NoteError:
                    self.faults[CoreFault.BAD_NOTE] += 1
        self.take_mapped_files(self.mapped_files)
        if not self.threads:
            raise CoreFileError(f"{self.path}: no thread's registers are in it{self._faults_text()}: dump it again")
        if not self.pid:
            self.pid = self.threads[0][0].tid
        self.faults = +self.faults

    def _faults_text(self) -> str:
        return "".join(f"; {fault.value}" for fault in +self.faults)

    def _program_headers(self) -> list[ProgramHeader]:
        identification = self._at(0, IDENTIFICATION_SIZE)
        if identification[:4] != ELF_MAGIC:
            raise CoreFileError(
                f"{self.path}: not a core file (it begins with {identification[:4]!r}){self._faults_text()}"
            )
        found = elf_class(identification[4]) if len(identification) == IDENTIFICATION_SIZE else elf_class(2)
        if found is None:
            raise CoreFileError(f"{self.path}: its header is damaged (ELF class {identification[4]})")
        data = self._at(IDENTIFICATION_SIZE, found.header.size)
        if len(data) < found.header.size:
            raise CoreFileError(f"{self.path}: ends inside its ELF header{self._faults_text()}: dump it again")
        if identification[5] != 1:
            raise CoreFileError(f"{self.path}: of a big-endian machine; core files of {supported()} can be read")
        header = found.read_header(data)
        if header.kind != _ET_CORE:
            raise CoreFileError(f"{self.path}: an ELF file, but no core file; name its program with -e PROGRAM")
        self._class, self.layout = found, self._layout(found, header.machine)
        if header.entry_size != found.segment.size:
            raise CoreFileError(f"{self.path}: its header is damaged (program headers of {header.entry_size} bytes)")
        count = header.count
        if count == _PN_XNUM:
            # More do not fit the header; section 0 tells (gABI, "Extended section numbering").
            first = self._at(header.sections + found.first_section_info, 4)
            count = int.from_bytes(first, "little") if len(first) == 4 else _PN_XNUM
        if count > _MOST_SEGMENTS:
            raise CoreFileError(f"{self.path}: its header is damaged ({count} program headers)")
        table = self._at(header.table, count * found.segment.size)
        self.faults[CoreFault.HEADERS_CUT_SHORT] += len(table) < count * found.segment.size
        return found.read_program_headers(table)

    def _layout(self, found: ElfClass, machine: int) -> CoreLayout:
        layout = layout_of(machine)
        if layout is None:
            raise CoreFileError(
                f"{self.path}: a core file of {machine_name(machine)}; those of {supported()} can be read"
            )
        if layout.word_size != 4 * found.number:
            bits = 32 * found.number
            raise CoreFileError(
                f"{self.path}: a core file of {layout.name} code with {bits}-bit addresses; there {supported()} with "
                "addresses of their own size can be read"
            )
        return layout

    def _notes(self, offset: int, size: int) -> Iterator[tuple[int, bytes]]:
        """(type, contents) of the notes in a PT_NOTE; names are CORE and LINUX, whose types do not collide."""
        data = self._at(offset, min(size, _LARGEST_NOTES))
        cut = len(data) < size
        at = 0
        while at + _NOTE.size <= len(data):
            name_size, content_size, kind = _NOTE.unpack_from(data, at)
            content = at + _NOTE.size + (name_size + 3 & ~3)
            end = content + content_size
            if end > len(data):
                cut = True
                break
            yield kind, data[content:end]
            at = end + 3 & ~3
        self.faults[CoreFault.NOTES_CUT_SHORT] += cut

    def _note(self, kind: int, data: bytes) -> None:
        word_size = self.layout.word_size
        if kind == N.NT_PRSTATUS:
            self.threads.append((N.read_status(data, self.layout), None))
        elif kind in self.layout.vector_notes and self.threads:
            # It follows its thread's NT_PRSTATUS; where there are several, they agree.
            found = self.layout.vector_notes[kind](data)
            thread, others = self.threads[-1]
            self.threads[-1] = (thread, found | (others or {}))
        elif kind == N.NT_PRPSINFO:
            self.pid, self.name = N.read_process(data, word_size)
        elif kind == N.NT_AUXV:
            self.auxiliary_vector = N.read_auxiliary_vector(data, word_size)
        elif kind == N.NT_FILE:
            self.mapped_files = N.read_mapped_files(data, word_size)
        elif kind == N.NT_ARM_PAC_MASK and self.layout.machine == _EM_AARCH64:
            self.signature_mask = N.read_signature_mask(data)

    def _at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes of the file."""
        if offset >= self._size or size <= 0:
            return b""
        # No mapping of the file: one that is cut meanwhile would end the program, where a read is only short.
        return os.pread(self._file.fileno(), min(size, self._size - offset), offset)

    # --- memory

    def take_mapped_files(self, files: list[N.MappedFile]) -> None:
        """Go by these files, which do not overlap; for a core file that has no NT_FILE."""
        self.mapped_files = sorted(files, key=lambda each: each.start)
        self._file_starts = [each.start for each in self.mapped_files]

    def _segment(self, address: int) -> _Segment | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._segments[index].end:
            return None
        return self._segments[index]

    def read(self, address: int, size: int) -> bytes:
        """Up to `size` bytes of memory at `address`; fewer, or b"", where the core file does not hold it."""
        parts: list[bytes] = []
        while size > 0:
            segment = self._segment(address)
            inside = address - segment.start if segment is not None else 0
            if segment is None or inside >= segment.stored:
                break
            wanted = min(size, segment.stored - inside)
            part = self._at(segment.offset + inside, wanted)
            parts.append(part)
            if len(part) < wanted:
                break
            address += wanted
            size -= wanted
        return b"".join(parts)

    def left_to_file(self, address: int) -> bool:
        """Whether memory at `address` was left out since it is as in the file that is mapped there.

        The kernel dumps of a private file mapping all or, where nothing was written to it, nothing or the first page
        (fs/coredump.c, vma_dump_size).
        """
        segment = self._segment(address)
        return (
            segment is not None and address - segment.start >= segment.dumped and self._mapped_file(address) is not None
        )

    def _mapped_file(self, address: int) -> N.MappedFile | None:
        index = bisect_right(self._file_starts, address) - 1
        if index < 0 or address >= self.mapped_files[index].end:
            return None
        return self.mapped_files[index]

    # --- events

    @property
    def program(self) -> str | None:
        """The path of the file that was executed, as the kernel mapped it; None when the core file does not tell."""
        found = self._mapped_file(self.auxiliary_vector.get(N.AT_PHDR, 0))
        return found.path if found is not None else None

    def events(self) -> Iterator[Event]:
        """Mappings and names, then a sample a thread."""
        for mapping in self._mappings():
            yield MappingAdded(0, self.pid, mapping)
        yield ThreadNamed(0, self.pid, self.pid, self.name)
        for index, (thread, vector_registers) in enumerate(self.threads):
            yield Sample(
                time_ns=0,
                cpu=-1,
                pid=self.pid,
                tid=thread.tid,
                places=(),
                registers=thread.registers,
                known=(1 << len(thread.registers)) - 1,
                read_memory=self.read,
                read_vector_registers=None if vector_registers is None else lambda found=vector_registers: found,  # type: ignore[misc]
                left_to_file=self.left_to_file,
                signal=thread.signal if index == 0 else 0,
                machine=self.layout.machine,
                signature_mask=self.signature_mask,
            )

    def _mappings(self) -> Iterator[Mapping]:
        """The executable mappings: of files, of the vdso, and of code without a file."""
        build_ids = self._build_ids()
        vdso = self.auxiliary_vector.get(N.AT_SYSINFO_EHDR)
        for segment in self._segments:
            if not segment.executable or segment.start >= 1 << 63:
                continue  # the kernel's half has the vsyscall page, which no stack needs
            file = self._mapped_file(segment.start)
            if file is not None:
                offset = file.file_offset + (segment.start - file.start)
                yield Mapping(segment.start, segment.end, offset, file.path, build_ids.get(file.path))
            elif segment.start == vdso:
                end = min(segment.end, segment.start + _LARGEST_VDSO)
                yield Mapping(segment.start, end, 0, "[vdso]", self._build_id(segment.start))
            else:
                yield Mapping(segment.start, segment.end, 0, "//anon")
        for file in self.mapped_files:
            # gdb writes no header for code that is as in its file. Nor does it for other memory of that kind, where
            # no code is: that is for the file's own headers to tell.
            if self._segment(file.start) is None and file.end <= 1 << 63:
                yield Mapping(file.start, file.end, file.file_offset, file.path, build_ids.get(file.path))

    def _build_ids(self) -> dict[str, bytes]:
        """Build-ids of the mapped ELF files by path, from their first pages in memory, which the kernel dumps."""
        found: dict[str, bytes] = {}
        for file in self.mapped_files:
            if file.file_offset == 0 and file.path not in found:
                build_id = self._build_id(file.start)
                if build_id is not None:
                    found[file.path] = build_id
        return found

    def _build_id(self, start: int) -> bytes | None:
        """The build-id of the ELF image whose header lies at `start`, as far as memory tells."""
        expected = bytes((*ELF_MAGIC, self._class.number, 1))
        header = self.read(start, IDENTIFICATION_SIZE + self._class.header.size)
        if len(header) < IDENTIFICATION_SIZE + self._class.header.size or header[:6] != expected:
            return None
        read = self._class.read_header(header[IDENTIFICATION_SIZE:])
        if read.entry_size != self._class.segment.size or read.table > 1 << 32:
            return None
        rows = self._class.read_program_headers(self.read(start + read.table, read.count * read.entry_size))
        first = next((row.address - row.offset for row in rows if row.kind == _PT_LOAD), 0)
        for row in rows:
            if row.kind != _PT_NOTE:
                continue
            place = (start + row.address - first) & ((1 << 8 * self.layout.word_size) - 1)
            build_id = build_id_in(self.read(place, min(row.file_size, 1 << 16)))
            if build_id is not None:
                return build_id
        return None
