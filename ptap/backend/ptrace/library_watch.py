"""Where a process tells that its libraries have changed: the dynamic linker's debugger rendezvous.

The dynamic linker calls its empty function `_dl_debug_state` (glibc, musl; r_brk of struct r_debug, link.h)
before and after it changes the list of loaded objects, at program start and in dlopen and dlclose. A breakpoint
there is how every debugger learns of libraries. The function is found by name, because struct r_debug is filled
in only when the dynamic linker has already begun to run.
"""

from __future__ import annotations

import os
import struct
from functools import cache
from typing import Final

from ptap.backend.ptrace.memory_map import MapRow

_AT_BASE: Final = 7
_RENDEZVOUS: Final = ("_dl_debug_state", "dl_debug_state")


def loader_breakpoint(tid: int, rows: list[MapRow]) -> int | None:
    """The address of the rendezvous function in the process of `tid`; None for a program without one.

    A program without a dynamic linker (static) has none. When the dynamic linker was itself started as the
    program, AT_BASE is 0 and the program's own mapping is looked at.
    """
    base = _interpreter_base(tid) or _program_base(tid, rows)
    first = next((row for row in rows if row.start == base and row.path.startswith("/")), None)
    if first is None:
        return None
    symbol = _rendezvous_offset(f"/proc/{tid}/root{first.path}", first.device, first.inode)
    if symbol is None:
        return None
    for row in rows:
        if row.executable and (row.device, row.inode) == (first.device, first.inode):
            address = row.start + symbol - row.file_offset
            if row.start <= address < row.end:
                return address
    return None


def _interpreter_base(tid: int) -> int:
    try:
        with open(f"/proc/{tid}/auxv", "rb") as file:
            data = file.read()
    except OSError:
        return 0
    for key, value in struct.iter_unpack("<QQ", data[: len(data) // 16 * 16]):
        if key == _AT_BASE:
            return int(value)
    return 0


def _program_base(tid: int, rows: list[MapRow]) -> int:
    try:
        path = os.readlink(f"/proc/{tid}/exe")
    except OSError:
        return 0
    return next((row.start for row in rows if row.path == path), 0)


@cache
def _rendezvous_offset(path: str, device: tuple[int, int], inode: int) -> int | None:
    """File offset of the rendezvous function. `device` and `inode` make the answer good for one file only."""
    from cfi_tables.elf_image import ElfError, ElfImage
    from cfi_tables.symbol_table import symbols

    try:
        image = ElfImage.open(path)
        for section in (".dynsym", ".symtab"):
            table = symbols(image, section)
            if table is None:
                continue
            for name in _RENDEZVOUS:
                for index in table.find(name):
                    value = int(table.value[index])
                    offset = image.address_to_offset(value) if table.section[index] else None
                    if offset is not None:
                        return offset
    except (ElfError, OSError):
        return None
    return None
