"""Places of a kernel's code: a symbol that the kernel knows just one of, and an offset from it.

Addresses are those in vmlinux, or in a module's file with its sections one after the other (the link view). The kernel
finds a symbol by its name, and of several by one name the first, so a place in another one is reached from the nearest
name before it that is unique; where a section of a module has none, from the first of several. Whether that led to the
place that was meant is checked when the probe is set.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from cfi_tables.cfi_sources import code_ranges
from cfi_tables.elf_image import ET_REL, SHF_EXECINSTR, ElfImage
from cfi_tables.relocation import placed_symbols
from cfi_tables.symbol_table import SHN_UNDEF, STT_FUNC, STT_OBJECT, SymbolTable, symbols
from ptap.kernel_module.kernel_point import KernelPoint
from ptap.kernel_module.messages import ANCHORS
from ptap.probe.point import ProbeKind
from ptap.probe.resolve import ProbeNotFound

_STT_NOTYPE = 0
_LISTED = re.compile(r"([0-9a-f]{8,16}) (\w) (\S+)$")  # a symbol of a module names that behind it
_TRACEPOINT = "__tracepoint_"
_LONGEST_ANCHOR = 128
_BY_SYMBOLS = (ProbeKind.FUNCTION, ProbeKind.CALL, ProbeKind.RETURN)
_NOT_LISTED = re.compile(r"\$|\.L|L0|__(pfx|cfi|crc|kcrctab|kstrtab|kstrtabns|efistub|kvm_nvhe|UNIQUE_ID)_")
"""Beginnings of names that the kernel's own list of symbols leaves out (scripts/mksysmap, scripts/kallsyms.c)."""


@dataclass(frozen=True, slots=True)
class KernelPlace:
    """Where one probe is to be set, or what it is."""

    point: KernelPoint
    function: str
    """The tracepoint's name for a tracepoint, "" for a timer."""
    address: int
    """0 where there is none: of a tracepoint and of a timer."""
    symbol: str
    """With `module:` before it in a module."""
    offset: int
    """Bytes from the symbol; of a timer its samples a second."""
    file: str | None = None
    line: int | None = None
    inlined_into: str | None = None
    """The function that an inlined copy lies in."""
    optional: bool = False
    """One of many that a wildcard means: where the kernel does not probe it, the others go on."""
    one_of_several: bool = False
    """Other functions of that name are probed, too: only file and line tell them apart."""

    @property
    def name(self) -> str:
        """The probe point with the one place that it resolved to, as traces name it."""
        point = self.point
        if point.address is not None or point.kind is ProbeKind.TIMER:
            return point.text
        if point.kind is ProbeKind.TRACEPOINT:
            group = f"{point.group}:" if point.group else ""
            return f'{point.owner}.trace("{group}{self.function}")'
        told = self.one_of_several or point.file is not None or point.kind is ProbeKind.STATEMENT
        position = f"@{Path(self.file).name}:{self.line}" if told and self.file and self.line else ""
        if point.kind is ProbeKind.STATEMENT:
            return f'{point.owner}.statement("{self.function}{position}")'
        suffix = {ProbeKind.RETURN: ".return", ProbeKind.CALL: ".call"}.get(point.kind, "")
        return f'{point.owner}.function("{self.function}{position}"){".inline" if self.inlined_into else suffix}'

    @property
    def is_event(self) -> bool:
        """Whether it is no place in code."""
        return self.point.kind in (ProbeKind.TRACEPOINT, ProbeKind.TIMER)

    @property
    def reached(self) -> str:
        """How the kernel is told of it."""
        if self.is_event:
            return self.symbol or f"{self.offset} a second"
        return self.symbol + (f"+{self.offset:#x}" if self.offset else "")


class KernelSymbols:
    """The symbols of a kernel or a module: those of code sorted by address, and which names it has more than once."""

    def __init__(
        self,
        path: str,
        code: Sequence[tuple[int, str]],
        functions: Container[int],
        others: dict[str, int],
        *,
        every_name: Sequence[str] | None = None,
        ranges: Sequence[tuple[int, int]] = (),
        module: str | None = None,
    ):
        """`code` has (address, name); `functions` the addresses that can be probed as such; `others` data.

        `every_name` has one element a symbol of any kind, `ranges` the parts that may come to lie apart.
        """
        self.path = path
        self.ranges = sorted(ranges)
        rows = sorted(code, key=lambda row: row[0])
        self._addresses = [row[0] for row in rows]
        self._names = [row[1] for row in rows]
        self._functions = functions
        self._others = others
        self._module = module
        counts = Counter(self._names if every_name is None else every_name)
        self._unique = {name for name in self._names if counts[name] == 1 and not _NOT_LISTED.match(name)}
        # The kernel's own symbols are looked up in the order of addresses, a module's in that of its file.
        in_order = rows if module is None else code
        self._first = {name: address for address, name in reversed(in_order) if not _NOT_LISTED.match(name)}

    @classmethod
    def of_vmlinux(cls, image: ElfImage) -> KernelSymbols:
        """Those of its symbol table. Raises ProbeNotFound where there is none."""
        table = symbols(image)
        if table is None:
            raise ProbeNotFound(
                f"{image.path} has no symbols: name the vmlinux of the kernel's -dbg package, or its System.map "
                "(--system-map)"
            )
        code, functions, names = _code_of(image, table)
        others = {}
        for name in ANCHORS:
            values = {int(table.value[row]) for row in table.find(name).tolist() if table.section[row] != SHN_UNDEF}
            if len(values) == 1:
                others[name] = values.pop()
        others |= _tracepoints(table)
        return cls(image.path, code, functions, others, every_name=names)

    @classmethod
    def of_module(cls, image: ElfImage, name: str) -> KernelSymbols:
        """Those of a module's file. Raises ProbeNotFound and ElfError."""
        table = symbols(image)
        if image.file_type != ET_REL or table is None:
            raise ProbeNotFound(f"{image.path} is no kernel module with symbols; name the .ko of module {name}")
        code, functions, names = _code_of(image, placed_symbols(image, table))
        own = _tracepoints(table)
        return cls(image.path, code, functions, own, every_name=names, ranges=code_ranges(image), module=name)

    @classmethod
    def of_system_map(cls, path: str) -> KernelSymbols:
        """Those of a System.map, or of a /proc/kallsyms of the kernel where nothing moved it. Raises ProbeNotFound."""
        code: list[tuple[int, str]] = []
        others: dict[str, int] = {}
        names: list[str] = []
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
            match = _LISTED.match(line)
            if match is not None and int(match[1], 16):
                others.setdefault(match[3], int(match[1], 16))
                names.append(match[3])
                if match[2] in "tTwW":
                    code.append((int(match[1], 16), match[3]))
        if not code:
            raise ProbeNotFound(f"{path} lists no addresses of code; copy /proc/kallsyms as root")
        return cls(path, code, {address for address, _ in code}, others, every_name=names)

    def address(self, name: str) -> int | None:
        """The address of the one symbol of that name, of code or an anchor; None when there are none or several."""
        if name in self._unique:
            return self._addresses[self._names.index(name)]
        return self._others.get(name)

    def tracepoints(self, pattern: str) -> list[str]:
        """The names of the tracepoints that match the wildcard `pattern`, sorted."""
        known = (name.removeprefix(_TRACEPOINT) for name in self._others if name.startswith(_TRACEPOINT))
        return sorted(name for name in known if fnmatchcase(name, pattern))

    def functions(self, pattern: str) -> list[tuple[int, str]]:
        """(address, name) of the functions that match the wildcard `pattern`, each address once, sorted."""
        found: dict[int, str] = {}
        for address, name in zip(self._addresses, self._names, strict=True):
            if fnmatchcase(name, pattern) and address in self._functions:
                found[address] = name
        return sorted(found.items())

    def reach(self, address: int, name: str = "") -> tuple[str, int] | None:
        """(symbol, offset) that lead to `address`, from the function `name` if it can be; None when nothing does."""
        first = next((low for low, high in self.ranges if low <= address < high), None if self.ranges else 0)
        if first is None:
            return None
        best: int | None = None
        doubtful: int | None = None
        row = bisect_right(self._addresses, address) - 1
        while row >= 0 and self._addresses[row] >= first:
            if best is not None and self._addresses[row] != self._addresses[best]:
                break
            if self._names[row] in self._unique and (best is None or self._names[row] == name):
                best = row
            if doubtful is None and self._first.get(self._names[row]) == self._addresses[row]:
                doubtful = row
            row -= 1
        best = doubtful if best is None else best
        if best is None:
            return None
        prefix = f"{self._module}:" if self._module else ""
        return prefix + self._names[best], address - self._addresses[best]

    def outermost(self, low: int, high: int) -> tuple[tuple[int, str], tuple[int, str]] | None:
        """(address, name) of the first and the last symbol in [low, high) that are found by their names."""
        inside = [
            (address, name)
            for address, name in zip(self._addresses, self._names, strict=True)
            if low <= address < high and self._first.get(name) == address and len(name) < _LONGEST_ANCHOR
        ]
        return (inside[0], inside[-1]) if inside else None

    def is_initial(self, address: int) -> bool:
        """Whether a kernel has code there only while it starts."""
        low, high = self.address("_sinittext"), self.address("_einittext")
        return low is not None and high is not None and low <= address < high

    def is_code(self, address: int) -> bool:
        """Whether a symbol of code lies at or before `address`."""
        return bool(self._addresses) and self._addresses[0] <= address

    def places(self, point: KernelPoint) -> list[KernelPlace]:
        """The places of `point` by symbols alone, by address. Raises ProbeNotFound, where they do not tell, too."""
        if point.file is not None or point.kind not in _BY_SYMBOLS or point.module != self._module:
            raise ProbeNotFound(
                f"{point.text}: symbols alone do not tell where that is; a file with debug information does"
            )
        found = list(self._places(point))
        if not found:
            raise ProbeNotFound(
                f"{point.text}: {self.path} has no function of that name; it may be inlined everywhere, or lie in a "
                "module"
            )
        return found

    def _places(self, point: KernelPoint) -> Iterator[KernelPlace]:
        for address, name in self.functions(point.function):
            reached = self.reach(address, name)
            if reached is None:
                raise ProbeNotFound(f"{point.text}: no symbol before {name} at {address:#x} has a name of its own")
            yield KernelPlace(point, name, address, *reached, optional=point.is_wild)


def _tracepoints(table: SymbolTable) -> dict[str, int]:
    """The symbols of the tracepoints that a file has, with their values."""
    rows = np.flatnonzero((table.type == STT_OBJECT) & (table.section != SHN_UNDEF)).tolist()
    own = [row for row in rows if table.name_bytes(row).startswith(_TRACEPOINT.encode())]
    return {table.name(row): int(table.value[row]) for row in own}


def _code_of(image: ElfImage, table: SymbolTable) -> tuple[list[tuple[int, str]], set[int], list[str]]:
    """((address, name) of each symbol of code, addresses of functions, names of all symbols)."""
    inside = [index for index, each in enumerate(image.section_list) if each.flags & SHF_EXECINSTR]
    defined = (table.section != SHN_UNDEF) & np.isin(table.type, (_STT_NOTYPE, STT_FUNC, STT_OBJECT))
    names = [table.name(row) for row in np.flatnonzero(defined).tolist()]
    rows = np.flatnonzero(defined & np.isin(table.section, inside) & (table.type != STT_OBJECT)).tolist()
    code = [(int(table.value[row]), table.name(row)) for row in rows]
    return code, {int(table.value[row]) for row in rows if table.type[row] == STT_FUNC}, names
