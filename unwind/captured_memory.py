"""The memory of a sample, for values: raw slices, the stopped process, and what files say of read-only memory.

A capture that copied only stack still knows every constant of the program: the segments of a module that are not
writable hold at run time what the file holds. Writable memory that was not captured stays unknown; it is never
filled in from a file.
"""

from __future__ import annotations

from bisect import bisect_right

from cfi_tables.elf_image import PT_LOAD, ElfError
from relay_reader.capture import Sample
from unwind.address_space import AddressSpace
from unwind.module import Module, ModuleCatalog

_PF_W = 2
_PAGE = 4096
"""Whether memory was dumped is decided by pages at the finest."""


class ModuleMemory:
    """The loaded segments of the modules that one address space maps, by run-time address."""

    def __init__(self, space: AddressSpace, catalog: ModuleCatalog, pid: int) -> None:
        self.space = space
        self.version = space.version
        segments: dict[int, tuple[int, int, Module, int, bool]] = {}
        for mapping in space:
            module = catalog.module_for(mapping, pid)
            if module is None or module.image is None:
                continue
            bias = module.bias(mapping)
            for segment in module.image.segments:
                if segment.type == PT_LOAD:
                    start = segment.address + bias
                    writable = bool(segment.flags & _PF_W)
                    segments[start] = (start, start + segment.memory_size, module, bias, writable)
        self._segments = sorted(segments.values(), key=lambda each: each[0])
        self._starts = [each[0] for each in self._segments]

    def read(self, address: int, size: int, writable: bool = False) -> bytes:
        """Up to `size` bytes at `address`, b"" where no read-only segment lies.

        With `writable` those of a segment that could be written count: the caller knows that they were not.
        """
        found = self._find(address)
        if found is None or (found[4] and not writable):
            return b""
        _, end, module, bias, _ = found
        if module.image is None:
            return b""
        try:
            return module.image.read(address - bias, min(size, end - address))
        except ElfError:
            return b""

    def symbol(self, address: int) -> str | None:
        """The symbol at a run-time address, as "name" or "name+8"; None where no module has one."""
        found = self._find(address)
        if found is None or found[2].symbols is None:
            return None
        return found[2].symbols.symbol_names.name_at(address - found[3])

    def _find(self, address: int) -> tuple[int, int, Module, int, bool] | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._segments[index][1]:
            return None
        return self._segments[index]


class CapturedMemory:
    """Reads the memory of one sample's thread."""

    def __init__(self, sample: Sample, modules: ModuleMemory) -> None:
        self._sample = sample
        self._modules = modules

    def read(self, address: int, size: int) -> bytes:
        """Up to `size` bytes at `address`; b"" or fewer where memory was not captured."""
        for piece in self._sample.slices:
            offset = address - piece.address
            if 0 <= offset < len(piece.data):
                found = piece.data[offset : offset + size]
                if len(found) == size:
                    return found
                return found + self.read(address + len(found), size - len(found))
        if self._sample.read_memory is None:
            return self._modules.read(address, size)
        data = self._sample.read_memory(address, size)
        left_to_file = self._sample.left_to_file
        while left_to_file is not None and len(data) < size:
            at = address + len(data)
            end = min(address + size, (at // _PAGE + 1) * _PAGE)
            found = self._modules.read(at, end - at, writable=left_to_file(at))
            found = found or self._sample.read_memory(at, address + size - at)
            if not found:
                break
            data += found
        return data
