"""From probe points to places of a kernel: a symbol that the kernel knows just one of, and an offset from it.

Addresses are those in vmlinux. The kernel finds a symbol by its name, and of several by one name the first, so a place
in another one is reached from the nearest name before it that is unique.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from cfi_tables.elf_image import SHF_EXECINSTR, ElfImage
from cfi_tables.symbol_table import SHN_UNDEF, STT_FUNC, symbols
from ptap.kernel_module.kernel_point import KernelPoint
from ptap.probe.resolve import ProbeNotFound

_WILDCARDS = frozenset("*?[")
_STT_NOTYPE = 0


@dataclass(frozen=True, slots=True)
class KernelPlace:
    """Where one probe is to be set."""

    point: KernelPoint
    function: str
    address: int
    symbol: str
    offset: int
    """Bytes from the symbol."""

    @property
    def name(self) -> str:
        """The probe point with the one function that it resolved to, as traces name it."""
        return self.point.text.replace(f'"{self.point.function}', f'"{self.function}', 1)


class KernelSymbols:
    """The code symbols of a vmlinux, sorted by address. Raises ProbeNotFound where there are none."""

    def __init__(self, image: ElfImage) -> None:
        table = symbols(image)
        if table is None:
            raise ProbeNotFound(f"{image.path} has no symbols: name the vmlinux of the kernel's -dbg package")
        self._path = image.path
        defined = table.section != SHN_UNDEF
        self._all = table
        code = [index for index, each in enumerate(image.section_list) if each.flags & SHF_EXECINSTR]
        rows = np.flatnonzero(np.isin(table.section, code) & np.isin(table.type, (_STT_NOTYPE, STT_FUNC)) & defined)
        rows = rows[np.argsort(table.value[rows], kind="stable")]
        self._addresses = table.value[rows]
        self._names = [table.name(row) for row in rows.tolist()]
        self._is_function = table.type[rows] == STT_FUNC
        names, counts = np.unique(np.array(self._names), return_counts=True)
        self._unique = set(names[counts == 1].tolist())

    def address(self, name: str) -> int | None:
        """The address of the one symbol of that name, of code or data; None when there are none or several."""
        rows = [row for row in self._all.find(name).tolist() if self._all.section[row] != SHN_UNDEF]
        return int(self._all.value[rows[0]]) if len(rows) == 1 else None

    def places(self, point: KernelPoint) -> list[KernelPlace]:
        """The places of `point`, by address. Raises ProbeNotFound."""
        if point.file is not None:
            raise ProbeNotFound(f"{point.text}: functions of the kernel are not told apart by file in this version")
        wild = bool(_WILDCARDS & set(point.function))
        found = {
            int(self._addresses[row]): name
            for row, name in enumerate(self._names)
            if self._is_function[row] and (fnmatchcase(name, point.function) if wild else name == point.function)
        }
        if not found:
            raise ProbeNotFound(
                f"{point.text}: {self._path} has no function of that name; it may be inlined everywhere, or lie in a "
                "module"
            )
        return [self._place(point, name, address) for address, name in sorted(found.items())]

    def _place(self, point: KernelPoint, function: str, address: int) -> KernelPlace:
        if function in self._unique:
            return KernelPlace(point, function, address, function, 0)
        row = int(np.searchsorted(self._addresses, np.uint64(address), side="right")) - 1
        while row >= 0 and self._names[row] not in self._unique:
            row -= 1
        if row < 0:
            raise ProbeNotFound(f"{point.text}: no symbol before {function} at {address:#x} has a name of its own")
        return KernelPlace(point, function, address, self._names[row], address - int(self._addresses[row]))
