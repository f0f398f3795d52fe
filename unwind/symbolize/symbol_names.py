"""Function names from ELF symbol tables, by address: for code that debugging information does not know.

Data comes from .symtab (of the module or its debug file), else .gnu_debugdata, else .dynsym. Several symbols often
name one place; the one that people know best is preferred.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cfi_tables.elf_image import SHF_EXECINSTR, ElfError, ElfImage
from cfi_tables.symbol_table import STB_GLOBAL, STB_WEAK, STT_FUNC, STT_GNU_IFUNC, STT_OBJECT

if TYPE_CHECKING:
    import numpy as np

    from cfi_tables.symbol_table import SymbolTable

_STT_NOTYPE = 0


@dataclass(frozen=True, slots=True)
class FunctionSymbol:
    """A symbol of code. `end` is where it ends by its size, or without one where the next symbol begins."""

    name: str
    address: int
    end: int
    is_ifunc: bool = False
    """The code is no function of this name but what selects one, run by the dynamic linker (STT_GNU_IFUNC)."""

    @property
    def readable(self) -> str:
        """The name demangled; that of a PLT stub keeps its `@plt`."""
        from unwind.symbolize.function_name import readable_name

        return readable_name(self.name)


class SymbolNames:
    """The code symbols of a module, in columns sorted by address.

    `start` and `end` are uint64 file virtual addresses; `index` the row in the symbol table. `damage` is
    the error of a table that cannot be read.
    """

    def __init__(self, images: list[ElfImage]) -> None:
        self._images = images
        self.damage: str | None = None
        # Code that no symbol covers is mostly that of PLT stubs: these sections are asked for them.
        self._plt_ranges = [
            (section.address, section.address + section.size)
            for section in images[0].section_list
            if section.flags & SHF_EXECINSTR and section.name.startswith((".plt", ".iplt"))
        ]

    @cached_property
    def _table(self) -> tuple[ElfImage, SymbolTable] | None:
        from cfi_tables.mini_debug_info import mini_debug_symbols
        from cfi_tables.relocation import placed_symbols
        from cfi_tables.symbol_table import symbols

        for read in (symbols, mini_debug_symbols, lambda image: symbols(image, ".dynsym")):
            for image in self._images:
                try:
                    table = read(image)
                    if table is not None and len(table) > 1:
                        return image, placed_symbols(image, table)
                except ElfError as error:
                    self.damage = str(error)
        return None

    @cached_property
    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
        """Start, end, table row, and the furthest end so far."""
        if self._table is None:
            return None
        import numpy as np

        from cfi_tables.relocation import section_addresses

        image, table = self._table
        addresses = section_addresses(image)
        executable = np.zeros(65536, dtype=bool)
        limits = np.zeros(65536, dtype=np.uint64)
        for section in image.section_list[:65280]:
            executable[section.index] = bool(section.flags & SHF_EXECINSTR)
            limits[section.index] = addresses[section.index] + section.size
        code = (table.type == STT_FUNC) | (table.type == STT_GNU_IFUNC) | (table.type == _STT_NOTYPE)
        chosen = np.flatnonzero(code & executable[table.section] & (table.section != 0))
        chosen = chosen[np.argsort(table.value[chosen], kind="stable")]
        start = table.value[chosen]
        end = start + table.size[chosen]
        # A symbol without a size (assembly) reaches to the next one, at most to the end of its section.
        following = np.searchsorted(start, start, side="right")
        after = np.append(start, np.uint64(0xFFFFFFFFFFFFFFFF))[following]
        unsized = table.size[chosen] == 0
        end = np.where(unsized, np.minimum(after, limits[table.section[chosen]]), end)
        return start, end, chosen, np.maximum.accumulate(end) if len(end) else end

    def code_ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """Where code symbols and PLT stubs begin and end, as int64 bit patterns; they may overlap."""
        import numpy as np

        start = end = np.zeros(0, dtype=np.int64)
        if self._columns is not None:
            start, end = (column.astype(np.uint64).view(np.int64) for column in self._columns[:2])
        stubs = np.array([(stub.address, stub.end) for stub in self._stubs], dtype=np.int64).reshape(-1, 2)
        return np.concatenate([start, stubs[:, 0]]), np.concatenate([end, stubs[:, 1]])

    def at(self, address: int) -> FunctionSymbol | None:
        """The best symbol that covers `address`, a PLT stub's name too; None when none does."""
        return self._symbol_at(address) or self._stub_at(address)

    def _stub_at(self, address: int) -> FunctionSymbol | None:
        if not any(low <= address < high for low, high in self._plt_ranges):
            return None
        index = bisect_right(self._stubs, address, key=lambda stub: stub.address) - 1
        return self._stubs[index] if index >= 0 and address < self._stubs[index].end else None

    @cached_property
    def _stubs(self) -> list[FunctionSymbol]:
        from unwind.symbolize.plt_symbols import plt_symbols

        def resolver_name(address: int) -> str | None:
            symbol = self._symbol_at(address)
            return symbol.name if symbol is not None and symbol.address == address else None

        try:
            return [FunctionSymbol(*stub) for stub in plt_symbols(self._images[0], resolver_name)]
        except ElfError as error:
            self.damage = str(error)
            return []

    def _symbol_at(self, address: int) -> FunctionSymbol | None:
        if self._columns is None or self._table is None or not 0 <= address < 1 << 64:
            return None
        import numpy as np

        start, end, rows, reach = self._columns
        table = self._table[1]
        best: tuple[tuple[object, ...], int] | None = None
        index = int(np.searchsorted(start, np.uint64(address), side="right")) - 1
        while index >= 0 and int(reach[index]) > address:
            if int(end[index]) > address:
                row = int(rows[index])
                name = _plain(table.name(row))
                if name and not name.startswith((".L", "$")):
                    rank = (
                        int(table.size[row]) > 0,
                        int(start[index]),
                        _quality(int(table.type[row]), int(table.bind[row]), name),
                    )
                    if best is None or rank > best[0]:
                        best = (rank, index)
            index -= 1
        if best is None:
            return None
        index = best[1]
        row = int(rows[index])
        ifunc = int(table.type[row]) == STT_GNU_IFUNC
        return FunctionSymbol(_plain(table.name(row)), int(start[index]), int(end[index]), ifunc)

    @cached_property
    def _objects(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Start, end and table row of the data objects that have a size, sorted by start."""
        if self._table is None:
            return None
        import numpy as np

        table = self._table[1]
        chosen = np.flatnonzero((table.type == STT_OBJECT) & (table.section != 0) & (table.size > 0))
        chosen = chosen[np.argsort(table.value[chosen], kind="stable")]
        start = table.value[chosen]
        return start, start + table.size[chosen], chosen

    def name_at(self, address: int) -> str | None:
        """The code or data symbol that covers `address`, as `name` or `name+8`, demangled; None without one."""
        from unwind.symbolize.function_name import demangled

        code = self.at(address)
        if code is not None:
            name, start = code.readable, code.address
        else:
            data, start = self._object_at(address)
            if data is None:
                return None
            name = demangled(data)
        return f"{name}+{address - start}" if address != start else name

    def _object_at(self, address: int) -> tuple[str | None, int]:
        if self._objects is None or self._table is None or not 0 <= address < 1 << 64:
            return None, 0
        import numpy as np

        start, end, rows = self._objects
        # Of several objects at one address (aliases) the first in the table counts, as in gdb.
        last = int(np.searchsorted(start, np.uint64(address), side="right")) - 1
        if last < 0 or int(end[last]) <= address:
            return None, 0
        first = int(np.searchsorted(start, start[last], side="left"))
        return _plain(self._table[1].name(int(rows[first]))), int(start[last])

    @cached_property
    def _object_rows(self) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        if self._objects is not None and self._table is not None:
            start, _, rows = self._objects
            for address, row in zip(start.tolist(), rows.tolist(), strict=True):
                found.setdefault(_plain(self._table[1].name(row)), set()).add(address)
        return found

    def object_named(self, name: str) -> int | None:
        """The address of the data symbol with exactly this name; None when there is none, or several places."""
        addresses = self._object_rows.get(name, set())
        return next(iter(addresses)) if len(addresses) == 1 else None

    def all(self) -> list[FunctionSymbol]:
        """Every code symbol with a name, by address; of those with no type only the ones seen from outside."""
        return self._all

    @cached_property
    def _all(self) -> list[FunctionSymbol]:
        if self._columns is None or self._table is None:
            return []
        start, end, rows, _ = self._columns
        table = self._table[1]
        found = []
        for low, high, row in zip(start.tolist(), end.tolist(), rows.tolist(), strict=True):
            if table.type[row] == _STT_NOTYPE and table.bind[row] == 0:
                continue
            name = _plain(table.name(row))
            if name:
                found.append(FunctionSymbol(name, low, high, int(table.type[row]) == STT_GNU_IFUNC))
        return found

    @cached_property
    def _by_name(self) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for symbol in self.all():
            found.setdefault(symbol.name, set()).add(symbol.address)
        return found

    def addresses_of(self, name: str) -> set[int]:
        """Every address that a code symbol with exactly this name (less its version) has."""
        return self._by_name.get(name, set())


def _plain(name: str) -> str:
    """`name` without its version: .symtab holds `realpath@@GLIBC_2.3`."""
    return name.partition("@")[0] or name


def _quality(kind: int, bind: int, name: str) -> tuple[object, ...]:
    """Orders aliases of one address: functions, then global ones, then fewer underscores, then shorter
    names.
    """
    underscores = len(name) - len(name.lstrip("_"))
    if name.startswith(("_Z", "_R")):
        underscores = 0
    reach = 2 if bind == STB_GLOBAL else 1 if bind == STB_WEAK else 0
    # A weak `malloc` is the name people know for a global `__libc_malloc`.
    return (kind != _STT_NOTYPE, reach > 0, underscores == 0, reach, -underscores, -len(name), name)
