"""Functions by the names and sizes that the kernel prints of them: `ext4_map_blocks+0x27a/0x540`.

Owns what the kernel takes for a function's size (kernel/kallsyms.c `get_symbol_pos`, kernel/module/kallsyms.c): the
distance to the next symbol that it lists, so padding counts, and the sizes in the symbol table do not. Of functions
with one name and one size all are told.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cfi_tables.elf_image import SHF_EXECINSTR, ElfImage
from cfi_tables.relocation import placed_symbols
from cfi_tables.symbol_table import symbols

_NOT_LISTED = (b"$", b".L", b"L0", b"__crc_", b"__kstrtab_", b"__kstrtabns_", b"__efistub_", b"__kcfi_typeid_")
"""Beginnings of names that scripts/kallsyms.c leaves out."""
_SYMBOL_TYPES = (0, 1, 2, 10)
"""No type (assembly's labels), data among code, functions, and those that are resolved when they are linked."""


@dataclass(frozen=True, slots=True)
class FunctionPlace:
    """One function of a kernel's file."""

    address: int
    """As in the file; of a module, which has none, in its link view."""
    size: int
    last: bool
    """No symbol of its section follows: `size` is what is left of the section, and the kernel may print more."""

    def may_print(self, size: int) -> bool:
        """Whether the kernel prints `size` behind this function's name."""
        return size >= self.size if self.last else size == self.size


class FunctionPlaces:
    """The functions of vmlinux or of one module. Raises ElfError for a symbol table that is damaged."""

    def __init__(self, image: ElfImage) -> None:
        self._by_name: dict[bytes, list[int]] = {}
        self._starts = np.zeros(0, dtype=np.uint64)
        self._sections = np.zeros(0, dtype=np.int64)
        self._ends: dict[int, int] = {}
        table = symbols(image)
        if table is None:
            return
        table = placed_symbols(image, table)
        code = np.array([bool(each.flags & SHF_EXECINSTR) for each in image.section_list] + [False], dtype=bool)
        section = np.minimum(table.section.astype(np.int64), len(code) - 1)
        rows = np.flatnonzero(code[section] & np.isin(table.type, _SYMBOL_TYPES))
        starts: list[int] = []
        sections: list[int] = []
        ends: dict[int, int] = {}
        for row, address, within in zip(rows.tolist(), table.value[rows].tolist(), section[rows].tolist(), strict=True):
            name = table.name_bytes(row)
            if name and not name.startswith(_NOT_LISTED):
                self._by_name.setdefault(name, []).append(address)
                starts.append(address)
                sections.append(within)
                ends[within] = max(ends.get(within, 0), address + int(table.size[row]))
        order = np.argsort(np.array(starts, dtype=np.uint64), kind="stable")
        self._starts = np.array(starts, dtype=np.uint64)[order]
        self._sections = np.array(sections, dtype=np.int64)[order]
        self._ends = ends

    def __len__(self) -> int:
        return len(self._starts)

    def named(self, name: str) -> list[FunctionPlace]:
        """Every function called `name`, by address."""
        found = sorted(set(self._by_name.get(name.encode("utf-8", "surrogateescape"), ())))
        return [self._place(address) for address in found]

    @cached_property
    def _last_start(self) -> dict[int, int]:
        """The greatest start in each section."""
        return dict(zip(self._sections.tolist(), self._starts.tolist(), strict=True))

    def _place(self, address: int) -> FunctionPlace:
        row = int(np.searchsorted(self._starts, np.uint64(address), side="right"))
        section = int(self._sections[row - 1])
        if self._last_start[section] == address:
            return FunctionPlace(address, max(self._ends[section] - address, 0), True)
        return FunctionPlace(address, int(self._starts[row]) - address, False)
