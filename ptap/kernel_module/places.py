"""From probe points to places of a kernel: a symbol that the kernel knows just one of, and an offset from it.

Addresses are those in vmlinux. The kernel finds a symbol by its name, and of several by one name the first, so a place
in another one is reached from the nearest name before it that is unique.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from cfi_tables.elf_image import SHF_EXECINSTR, ElfImage
from cfi_tables.symbol_table import SHN_UNDEF, STT_FUNC, symbols
from ptap.kernel_module.kernel_point import KernelPoint
from ptap.kernel_module.messages import ANCHORS
from ptap.probe.resolve import ProbeNotFound

_WILDCARDS = frozenset("*?[")
_STT_NOTYPE = 0
_LISTED = re.compile(r"([0-9a-f]{8,16}) (\w) (\S+)$")  # a symbol of a module names that behind it


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
    """The symbols of a kernel: those of code sorted by address, and which names it has more than once."""

    def __init__(self, path: str, code: Sequence[tuple[int, str]], functions: Container[int], others: dict[str, int]):
        """`code` has (address, name); `functions` the addresses that can be probed as such; `others` data."""
        self._path = path
        rows = sorted(code, key=lambda row: row[0])
        self._addresses = [row[0] for row in rows]
        self._names = [row[1] for row in rows]
        self._functions = functions
        self._others = others
        counts = Counter(self._names)
        self._unique = {name for name, count in counts.items() if count == 1}

    @classmethod
    def of_vmlinux(cls, image: ElfImage) -> KernelSymbols:
        """Those of its symbol table. Raises ProbeNotFound where there is none."""
        table = symbols(image)
        if table is None:
            raise ProbeNotFound(
                f"{image.path} has no symbols: name the vmlinux of the kernel's -dbg package, or its System.map "
                "(--system-map)"
            )
        inside = [index for index, each in enumerate(image.section_list) if each.flags & SHF_EXECINSTR]
        is_code = np.isin(table.section, inside) & np.isin(table.type, (_STT_NOTYPE, STT_FUNC))
        rows = np.flatnonzero(is_code & (table.section != SHN_UNDEF)).tolist()
        code = [(int(table.value[row]), table.name(row)) for row in rows]
        functions = {int(table.value[row]) for row in rows if table.type[row] == STT_FUNC}
        others = {}
        for name in ANCHORS:
            values = {int(table.value[row]) for row in table.find(name).tolist() if table.section[row] != SHN_UNDEF}
            if len(values) == 1:
                others[name] = values.pop()
        return cls(image.path, code, functions, others)

    @classmethod
    def of_system_map(cls, path: str) -> KernelSymbols:
        """Those of a System.map, or of a /proc/kallsyms of the kernel where nothing moved it. Raises ProbeNotFound."""
        code: list[tuple[int, str]] = []
        others: dict[str, int] = {}
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
            match = _LISTED.match(line)
            if match is not None and int(match[1], 16):
                others.setdefault(match[3], int(match[1], 16))
                if match[2] in "tTwW":
                    code.append((int(match[1], 16), match[3]))
        if not code:
            raise ProbeNotFound(f"{path} lists no addresses of code; copy /proc/kallsyms as root")
        return cls(path, code, {address for address, _ in code}, others)

    def address(self, name: str) -> int | None:
        """The address of the one symbol of that name, of code or an anchor; None when there are none or several."""
        if name in self._unique:
            return self._addresses[self._names.index(name)]
        return self._others.get(name)

    def places(self, point: KernelPoint) -> list[KernelPlace]:
        """The places of `point`, by address. Raises ProbeNotFound."""
        if point.file is not None:
            raise ProbeNotFound(f"{point.text}: functions of the kernel are not told apart by file in this version")
        wild = bool(_WILDCARDS & set(point.function))
        found = {
            address: name
            for address, name in zip(self._addresses, self._names, strict=True)
            if (fnmatchcase(name, point.function) if wild else name == point.function) and address in self._functions
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
        row = bisect_right(self._addresses, address) - 1
        while row >= 0 and self._names[row] not in self._unique:
            row -= 1
        if row < 0:
            raise ProbeNotFound(f"{point.text}: no symbol before {function} at {address:#x} has a name of its own")
        return KernelPlace(point, function, address, self._names[row], address - self._addresses[row])
