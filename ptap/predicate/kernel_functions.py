"""Functions of a kernel by name → the link-time ranges in which a predicate's program looks for frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cfi_tables.cache import table_for
from cfi_tables.elf_image import ElfImage
from unwind.kallsyms import Kallsyms
from unwind.symbolize.function_index import name_matcher
from unwind.symbolize.nearest_name import nearest_names
from unwind.symbolize.symbolizer import Symbolizer

Range: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class FunctionCode:
    """Where functions are, as [start, end) pairs that are sorted and do not touch."""

    anywhere: list[Range]
    """With what is inlined in them."""
    innermost: list[Range]
    """Their own code only."""


class KernelFunctions:
    """Those of a vmlinux; where it has no symbols, those that its System.map lists."""

    def __init__(self, vmlinux: ElfImage, system_map: str | None = None) -> None:
        self._vmlinux = vmlinux
        self._system_map = system_map

    @property
    def known(self) -> Range:
        """The code that can be told from that of modules: what the unwind table is for."""
        return table_for(self._vmlinux).text_range

    def find(self, pattern: str, file: str | None) -> FunctionCode | None:
        """The functions of that name; None where files cannot be told. Empty when there are none.

        Raises SymbolIndexError, TableError and OSError.
        """
        if self._listed is not None:
            if file is not None:
                return None
            ranges = self._listed.code_of(name_matcher(pattern))
            return FunctionCode(ranges, ranges)  # calls that are inlined have no symbols
        return code_of(self._symbolizer, pattern, file)

    @cached_property
    def _symbolizer(self) -> Symbolizer:
        return Symbolizer(self._vmlinux)

    @cached_property
    def _listed(self) -> Kallsyms | None:
        """The list of symbols, where vmlinux has none itself."""
        if self._system_map is None or self._vmlinux.has(".symtab") or self._vmlinux.has(".debug_info"):
            return None
        return Kallsyms.open(self._system_map)

    def nearest(self, pattern: str) -> list[str]:
        """Names of functions that may have been meant."""
        names = self._listed.names() if self._listed is not None else self._symbolizer.function_names()
        return nearest_names(pattern, names)


def code_of(symbolizer: Symbolizer, pattern: str, file: str | None) -> FunctionCode | None:
    """Where a file's functions of that name are; None where source files, or any names, cannot be told."""
    if file is not None and not symbolizer.has_debug_information:
        return None
    found = symbolizer.function_ranges(pattern, file)
    if found is None:
        return None
    return FunctionCode(_pairs(found.anywhere), _pairs(found.innermost))


def _pairs(ranges: NDArray[np.uint64]) -> list[Range]:
    return [(int(start), int(end)) for start, end in ranges]
