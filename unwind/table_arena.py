"""The compact tables of a capture's modules in one byte array, and address spaces as the walk's mapping arrays.

What every walk needs before it can begin: tables come from modules, mappings from address spaces. Arrays are kept
until the address space changes, so that samples of one process share them.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from relay_reader.capture import Mapping
from unwind.address_space import AddressSpace
from unwind.module import Module, ModuleCatalog
from unwind.walk import NO_TABLE, TRAMPOLINE

_SIGN = 1 << 63


def signed64(value: int) -> int:
    """An unsigned 64-bit value as the int64 bit pattern that hot loops work on."""
    return value - (1 << 64) if value & _SIGN else value


class TableArena:
    """Compact tables side by side in one byte array, as the walk wants them."""

    def __init__(self) -> None:
        self.content = bytearray()
        """All tables so far, and room for more. Replaced, never resized: arrays over an older one stay valid."""
        self._used = 0
        self._offsets: dict[int, int] = {}
        self._held: list[Module] = []

    def offset_of(self, module: Module) -> int:
        """Where the table of `module` begins in `content`, or NO_TABLE."""
        key = id(module)
        if key not in self._offsets:
            self._held.append(module)
            table = module.table_content()
            self._offsets[key] = NO_TABLE if table is None else self._placed(table)
        return self._offsets[key]

    def _placed(self, table: bytes | memoryview) -> int:
        """Where the table lies now; twice as much room is made where there is too little, so that few are copied."""
        begin = self._used + -self._used % 8
        self._used = begin + len(table)
        if self._used > len(self.content):
            self.content = self.content.ljust(2 * self._used, b"\0")
        self.content[begin : self._used] = table
        return begin


@dataclass(slots=True)
class MappedTables:
    """One state of an address space as the walk's mapping array, with what each entry stands for."""

    version: int
    values: array[int]
    """int64, MAPPING_WIDTH values a mapping, sorted by start; see `unwind.walk`."""
    mappings: list[Mapping]
    modules: list[Module | None]


class MappedSpaces:
    """The mapping arrays of address spaces, made anew when a space has changed."""

    def __init__(self, catalog: ModuleCatalog) -> None:
        self.arena = TableArena()
        self._catalog = catalog
        self._tables: dict[int, tuple[AddressSpace, MappedTables]] = {}

    def tables(self, space: AddressSpace, pid: int) -> MappedTables:
        """The mapping array of `space` as it is now; the same object until the space changes."""
        cached = self._tables.get(id(space))
        if cached is not None and cached[0] is space and cached[1].version == space.version:
            return cached[1]
        values = array("q")
        mappings = list(space)
        modules: list[Module | None] = []
        for mapping in mappings:
            module = self._catalog.module_for(mapping, pid)
            modules.append(module)
            if mapping.path == "[uprobes]":
                table, bias = TRAMPOLINE, 0
            elif module is None:
                table, bias = NO_TABLE, 0
            else:
                table, bias = self.arena.offset_of(module), module.bias(mapping)
            values.extend((signed64(mapping.start), signed64(mapping.end), signed64(bias), table))
        tables = MappedTables(space.version, values, mappings, modules)
        self._tables[id(space)] = (space, tables)
        return tables
