"""What of a program or library a capture keeps so that stacks can be walked where the file itself is not.

An ELF file with the sections that unwinding and names of functions need, at other places in the file; all others are
there without contents, as in a separate debug file. Code and data are not kept: what they hold is unknown, never zero.
"""

from __future__ import annotations

import struct

from cfi_tables.elf_image import PT_LOAD, SHT_NOBITS, ElfError, ElfImage, Section

_KEPT = (".eh_frame", ".note", ".dynsym", ".dynstr", ".symtab", ".strtab", ".shstrtab", ".plt", ".iplt", ".rela.plt",
         ".rela.iplt", ".gnu_debug", ".gnu.build", ".debug_frame")  # fmt: skip
"""Beginnings of the names of sections."""
_HEADER_SIZE, _SEGMENT_SIZE, _SECTION_SIZE = 64, 56, 64
_SEGMENT_OFFSET_AT, _SECTION_OFFSET_AT = 32, 40
_COUNTS_AT = 54
_ALIGNMENT = 8
_ALLOCATED = 1 << 1


def kept_part(image: ElfImage) -> bytes | None:
    """The part of a file that is to be kept; None for what is no 64-bit little-endian file. Raises ElfError."""
    if not image.is_64bit or not image.little_endian:
        return None
    original = image.data
    head = bytearray(original[:_HEADER_SIZE].tobytes())
    (segments_at,) = struct.unpack_from("<Q", head, _SEGMENT_OFFSET_AT)
    (sections_at,) = struct.unpack_from("<Q", head, _SECTION_OFFSET_AT)
    segment_size, segment_count, section_size, section_count = struct.unpack_from("<HHHH", head, _COUNTS_AT)
    if (segment_size, section_size) != (_SEGMENT_SIZE, _SECTION_SIZE) or section_count != len(image.section_list):
        return None
    content = bytearray(head)
    content += original[segments_at : segments_at + segment_size * segment_count].tobytes()
    headers = bytearray(original[sections_at : sections_at + section_size * section_count].tobytes())
    for section in image.section_list[1:]:
        at = section.index * _SECTION_SIZE
        if not section.name.startswith(_KEPT) or section.type == SHT_NOBITS:
            struct.pack_into("<I", headers, at + 4, SHT_NOBITS)
            continue
        content += bytes(-len(content) % _ALIGNMENT)
        struct.pack_into("<Q", headers, at + 24, len(content))
        # As it lies in the file: what is compressed stays so.
        content += original[section.offset : section.offset + section.size].tobytes()
    content += bytes(-len(content) % _ALIGNMENT)
    struct.pack_into("<Q", content, _SEGMENT_OFFSET_AT, _HEADER_SIZE)
    struct.pack_into("<Q", content, _SECTION_OFFSET_AT, len(content))
    return bytes(content + headers)


class KeptFile(ElfImage):
    """What a capture has kept of a file. Raises ElfError."""

    def read(self, address: int, size: int) -> bytes:
        """Up to `size` bytes at `address` of what was kept; ElfError where the file has more than that."""
        for section in self.section_list:
            if section.type != SHT_NOBITS and section.flags & _ALLOCATED and _holds(section, address):
                begin = address - section.address
                return self.contents(section)[begin : begin + size].tobytes()
        if any(each.type == PT_LOAD and 0 <= address - each.address < each.file_size for each in self.segments):
            raise ElfError(f"{self.path}: the capture does not hold what lies at {address:#x} of this file")
        return b""


def _holds(section: Section, address: int) -> bool:
    return section.address <= address < section.address + section.size
