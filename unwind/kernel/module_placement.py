"""Where the sections of one .ko lie in the running kernel, and from there its file addresses.

A module is an object that the kernel links as it loads it, each section at an address of its own. That is told by
/sys/module/M/sections; by symbols of the module, which kallsyms lists with their addresses; or by the order in which
the kernel lays out code (kernel/module/main.c, `layout_sections`). Where symbols are known they have to agree, else
the file is of another build.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cfi_tables.elf_image import ET_REL, SHF_ALLOC, SHF_EXECINSTR, ElfError, ElfImage, Section
from cfi_tables.relocation import section_addresses
from cfi_tables.symbol_table import symbols
from unwind.kallsyms import Kallsyms
from unwind.kernel.kernel_error import KernelError
from unwind.kernel.loaded_modules import LoadedModule


class ModulePlacement:
    """The code sections of a .ko, in columns sorted by address: `start`, `end` (loaded) and `target` (link view)."""

    def __init__(self, image: ElfImage, loaded: LoadedModule, kallsyms: Kallsyms) -> None:
        """Place `image`. Raises KernelError when it is not what was loaded, or its place is not known."""
        if image.file_type != ET_REL:
            raise KernelError(f"{image.path}: this is no kernel module (.ko)")
        if loaded.build_id is not None and image.build_id is not None and loaded.build_id != image.build_id:
            raise KernelError(
                f"{image.path} is of another build than the module {loaded.name} that is loaded: its build-id is "
                f"{image.build_id.hex()}, that of the loaded one {loaded.build_id.hex()}"
            )
        code = SHF_ALLOC | SHF_EXECINSTR
        sections = [each for each in image.section_list if each.flags & code == code and each.size]
        try:
            addresses = section_addresses(image)
            by_symbols = _bases_by_symbols(image, loaded, kallsyms)
        except ElfError as error:
            raise KernelError(str(error)) from None
        bases = {each.index: loaded.sections[each.name] for each in sections if each.name in loaded.sections}
        for index, base in by_symbols.items():
            if bases.setdefault(index, base) != base:
                raise KernelError(
                    f"{image.path} is of another build than the module {loaded.name} that is loaded: its symbols lie "
                    f"elsewhere in {image.section_list[index].name}"
                )
        if not bases and loaded.base is not None:
            bases = _bases_in_order(sections, loaded.base)
        if not bases:
            raise KernelError(
                f"where module {loaded.name} is loaded is not known: run as root, or name lists that tell (--kallsyms, "
                "--sections)"
            )
        placed = sorted(
            (bases[each.index], each.size, addresses[each.index]) for each in sections if each.index in bases
        )
        self.start = np.array([each[0] for each in placed], dtype=np.uint64)
        self.end = self.start + np.array([each[1] for each in placed], dtype=np.uint64)
        self.target = np.array([each[2] for each in placed], dtype=np.uint64)

    def file_addresses(self, addresses: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """The link-view address of each loaded address, and whether it lies in a section at all."""
        section = np.searchsorted(self.start, addresses, side="right").astype(np.int64) - 1
        inside = section >= 0
        inside[inside] = addresses[inside] < self.end[section[inside]]
        found = np.zeros(len(addresses), dtype=np.uint64)
        chosen = section[inside]
        found[inside] = addresses[inside] - self.start[chosen] + self.target[chosen]
        return found, inside


def _bases_by_symbols(image: ElfImage, loaded: LoadedModule, kallsyms: Kallsyms) -> dict[int, int]:
    """Address of each code section (by index) that symbols tell. Raises KernelError when they do not agree."""
    listed = kallsyms.unique_symbols(loaded.name)
    table = symbols(image) if listed else None
    if table is None:
        return {}
    found: dict[int, set[int]] = {}
    places: dict[str, list[tuple[int, int]]] = {}
    for row in range(1, len(table)):
        section = int(table.section[row])
        if 0 < section < len(image.section_list) and image.section_list[section].flags & SHF_EXECINSTR:
            places.setdefault(table.name(row), []).append((section, int(table.value[row])))
    compared = 0
    for name, candidates in places.items():
        if name in listed and len(candidates) == 1:
            section, value = candidates[0]
            found.setdefault(section, set()).add(listed[name] - value)
            compared += 1
    unequal = [image.section_list[section].name for section, bases in found.items() if len(bases) > 1]
    if unequal or not compared:
        why = f"its symbols lie elsewhere in {unequal[0]}" if unequal else "none of its functions is loaded"
        raise KernelError(
            f"{image.path} is of another build than the module {loaded.name} that is loaded: {why}; name the folder of "
            "that kernel's modules (--module-dir)"
        )
    return {section: bases.pop() for section, bases in found.items()}


def _bases_in_order(sections: list[Section], base: int) -> dict[int, int]:
    """The code sections that stay after the module's start, one after the other from its first byte."""
    found = {}
    at = base
    for section in sections:
        if not section.name.startswith(".init"):
            at = -(-at // max(1, section.alignment)) * max(1, section.alignment)
            found[section.index] = at
            at += section.size
    return found
