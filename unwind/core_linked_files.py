"""Which files a process had mapped where, from its dynamic linker's list: for core files that do not tell.

QEMU's user emulation writes no NT_FILE, nor did kernels before 3.7. What is left is what a debugger goes by (gABI, and
<link.h>): the auxiliary vector says where the program lies, its DT_DEBUG leads to the list of shared objects, and the
files say how each is laid out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cfi_tables.elf_image import PT_LOAD, ElfError, ElfImage
from relay_reader.capture import MemoryReader
from relay_reader.core_note import AT_BASE, AT_ENTRY, AT_EXECFN, AT_PHDR, AT_PHNUM, MappedFile

_PT_DYNAMIC, _PT_INTERP, _PT_PHDR = 2, 3, 6
_DT_NULL, _DT_DEBUG = 0, 21
_PAGE = 4096
_MOST_OBJECTS = 10_000
_MOST_ENTRIES = 1_000
_LONGEST_PATH = 4096

OpenFile = Callable[[str], ElfImage]
"""Opens a file by the path that the process had it by. Raises ElfError and OSError."""


@dataclass(frozen=True, slots=True)
class ProcessImage:
    """What of a core file leads to its files."""

    read: MemoryReader
    auxiliary_vector: dict[int, int]
    word_size: int

    def word(self, address: int) -> int | None:
        """The word at an address, None where it is not there."""
        data = self.read(address, self.word_size)
        return int.from_bytes(data, "little") if len(data) == self.word_size else None

    def text(self, address: int) -> str:
        """The text at an address up to its terminator, "" where there is none."""
        data = b""
        while b"\0" not in data and len(data) < _LONGEST_PATH:
            more = self.read(address + len(data), min(256, _PAGE - (address + len(data)) % _PAGE))
            if not more:
                return ""
            data += more
        return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def executed_path(process: ProcessImage, given: str | None) -> str | None:
    """The absolute path of the program as it was executed, else as it was `given`; None where neither is known."""
    path = process.text(process.auxiliary_vector.get(AT_EXECFN, 0))
    if path.startswith("/"):
        return path
    return os.path.abspath(given) if given is not None else None


def linked_files(process: ProcessImage, path: str, program: ElfImage, open_file: OpenFile) -> list[MappedFile]:
    """The mappings of the program, its interpreter and its shared objects.

    Nothing where `program` is not what was executed. Files that cannot be opened are left out.
    """
    bias = _program_bias(process, program)
    if bias is None:
        return []
    found = dict.fromkeys(_mappings(program, bias, path))
    objects = list(_linker_list(process, program, bias))
    base = process.auxiliary_vector.get(AT_BASE, 0)
    if base and not any(address == base for address, _ in objects):
        objects.append((base, _interpreter(program)))
    for address, name in objects:
        if not name.startswith("/"):
            continue
        try:
            image = open_file(name)
        except (ElfError, OSError):
            continue
        if image.machine == program.machine:
            found.update(dict.fromkeys(_mappings(image, address, name)))
    return list(found)


def _program_bias(process: ProcessImage, program: ElfImage) -> int | None:
    """Run-time address minus file virtual address; None where the auxiliary vector tells of another program."""
    auxiliary = process.auxiliary_vector
    if AT_ENTRY not in auxiliary or auxiliary.get(AT_PHNUM, len(program.segments)) != len(program.segments):
        return None
    bias = auxiliary[AT_ENTRY] - program.entry
    headers = next((each.address for each in program.segments if each.type == _PT_PHDR), None)
    if headers is not None and auxiliary.get(AT_PHDR, headers + bias) != headers + bias:
        return None
    return bias if bias >= 0 and bias % _PAGE == 0 else None


def _mappings(image: ElfImage, bias: int, path: str) -> Iterator[MappedFile]:
    """What the segments of a file map, each from the page of its first byte to that of its last one in the file."""
    for segment in image.segments:
        if segment.type == PT_LOAD and segment.file_size:
            start = segment.address + bias
            ahead = start % _PAGE
            end = start + segment.file_size
            yield MappedFile(start - ahead, end + -end % _PAGE, segment.offset - ahead, path)


def _linker_list(process: ProcessImage, program: ElfImage, bias: int) -> Iterator[tuple[int, str]]:
    """(bias, name) of the objects in the dynamic linker's list."""
    word = process.word_size
    debug = _debug_entry(process, program, bias)
    # struct r_debug: a version, then the list; struct link_map: l_addr, l_name, l_ld, l_next.
    node = process.word(debug + word) if debug else 0
    for _ in range(_MOST_OBJECTS):
        if not node:
            return
        address, name = process.word(node), process.word(node + word)
        if address is None or name is None:
            return
        yield address, process.text(name)
        node = process.word(node + 3 * word)


def _debug_entry(process: ProcessImage, program: ElfImage, bias: int) -> int:
    """DT_DEBUG of the program as the dynamic linker has written it; 0 where it has not."""
    dynamic = next((each.address + bias for each in program.segments if each.type == _PT_DYNAMIC), None)
    if dynamic is None:
        return 0
    for index in range(_MOST_ENTRIES):
        tag = process.word(dynamic + 2 * index * process.word_size)
        if tag in (None, _DT_NULL):
            return 0
        if tag == _DT_DEBUG:
            return process.word(dynamic + (2 * index + 1) * process.word_size) or 0
    return 0


def _interpreter(program: ElfImage) -> str:
    for segment in program.segments:
        if segment.type == _PT_INTERP:
            text = bytes(program.data[segment.offset : segment.offset + min(segment.file_size, _LONGEST_PATH)])
            return text.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    return ""
