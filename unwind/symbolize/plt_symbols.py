"""Names of PLT stubs, which no symbol table has: `puts@plt`, as gdb and objdump call them.

A stub jumps through a slot of the global offset table; the relocation that fills the slot names the function. So each
stub's own jump is decoded (x86-64: `jmp *disp32(%rip)`, perhaps behind endbr64 and with a bnd prefix), and nothing is
taken from the order of the stubs. A slot that an IFUNC's resolver fills has only that resolver's address.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from cfi_tables.elf_image import SHF_EXECINSTR, ElfImage, Section

_EM_X86_64 = 62
_RELA = struct.Struct("<QQq")
_R_X86_64_GLOB_DAT = 6
_R_X86_64_JUMP_SLOT = 7
_R_X86_64_IRELATIVE = 37
_ENDBR64 = b"\xf3\x0f\x1e\xfa"
_BND = b"\xf2"
_JUMP = b"\xff\x25"
_ALIGNMENT = 8
_LONGEST = 16
"""Stubs are 16 bytes, or 8 in .plt.got."""


def plt_symbols(image: ElfImage, resolver_name: Callable[[int], str | None]) -> list[tuple[str, int, int]]:
    """(name, address, end) of each stub that has a name, by address. Raises ElfError for damaged sections.

    `resolver_name` names the function whose IFUNC resolver is at an address.
    """
    if image.machine != _EM_X86_64 or not image.is_64bit:
        return []
    sections = [
        section
        for section in image.section_list
        if section.flags & SHF_EXECINSTR and section.name.startswith((".plt", ".iplt"))
    ]
    slots = _slots(image, resolver_name) if sections else {}
    found = [stub for section in sections for stub in _stubs(image, section, slots)]
    return sorted(found, key=lambda stub: stub[1])


def _slots(image: ElfImage, resolver_name: Callable[[int], str | None]) -> dict[int, str]:
    """The name of the function that each slot of the global offset table is filled with, by the slot's address."""
    from cfi_tables.symbol_table import symbols

    dynamic = symbols(image, ".dynsym")
    slots: dict[int, str] = {}
    for section in (".rela.plt", ".rela.dyn", ".rela.iplt"):
        if not image.has(section):
            continue
        data = image.section_data(section).tobytes()
        for offset, info, addend in _RELA.iter_unpack(data[: len(data) // _RELA.size * _RELA.size]):
            kind, index = info & 0xFFFFFFFF, info >> 32
            name: str | None = None
            if kind in (_R_X86_64_GLOB_DAT, _R_X86_64_JUMP_SLOT) and dynamic is not None and 0 < index < len(dynamic):
                name = dynamic.name(index)
            elif kind == _R_X86_64_IRELATIVE:
                name = resolver_name(addend)
            if name:
                slots[offset] = name.partition("@")[0]
    return slots


def _stubs(image: ElfImage, section: Section, slots: dict[int, str]) -> list[tuple[str, int, int]]:
    data = image.contents(section).tobytes()
    starts: list[tuple[str, int]] = []
    for begin in range(0, len(data), _ALIGNMENT):
        at = begin
        for prefix in (_ENDBR64, _BND):
            at += len(prefix) if data.startswith(prefix, at) else 0
        if data.startswith(_JUMP, at) and at + 6 <= len(data):
            (displacement,) = struct.unpack_from("<i", data, at + 2)
            name = slots.get(section.address + at + 6 + displacement)
            if name is not None:
                starts.append((f"{name}@plt", begin))
    ends = [*(begin for _, begin in starts[1:]), len(data)]
    return [
        (name, section.address + begin, section.address + min(end, begin + _LONGEST))
        for (name, begin), end in zip(starts, ends, strict=False)
    ]
