"""Modules: the files behind mappings, each opened once, with its compact table and its symbols.

A module is found from a mapping's path, checked against the mapping's build-id where the capture gives one, and
keeps as data why something about it is not to be had: other modules go on. Owns the translation between run-time
addresses and a file's virtual addresses.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cfi_tables.cache import table_for
from cfi_tables.debug_file import find_debug_file
from cfi_tables.elf_image import EM_X86_64, PF_X, PT_LOAD, ElfError, ElfImage
from cfi_tables.image_file import open_image
from relay_reader.capture import Mapping
from unwind.vdso import read_vdso

if TYPE_CHECKING:
    from cfi_tables.table import CompactTable
    from unwind.symbolize.module_symbols import ModuleSymbols

_PAGE = 4096
_ENTRY_CODE_SIZE = 256
"""More than a dynamic linker's hand-written entry code has: 64 bytes in glibc (sysdeps/x86_64/dl-machine.h)."""
_LIVE_REMEDY = "it was replaced after the program started: start the program again"

OpenImage = Callable[[Mapping, int], ElfImage]
"""Opens the file, or the vdso, behind a mapping of a process. Raises ElfError and OSError."""


class Module:
    """One file that is mapped somewhere. `problem` says why `image` is None."""

    def __init__(
        self,
        path: str,
        build_id: bytes | None,
        load: Callable[[], ElfImage],
        remedy: str = _LIVE_REMEDY,
        machine: int = EM_X86_64,
    ) -> None:
        self.path = path
        self._machine = machine
        self.image: ElfImage | None = None
        self.problem: str | None = None
        try:
            image = load()
            if build_id and image.build_id and image.build_id != build_id:
                self.problem = (
                    f"{path}: build-id {image.build_id.hex()} on disk, but {build_id.hex()} was running; {remedy}"
                )
            else:
                self.image = image
        except ElfError as error:
            self.problem = str(error)
        except OSError as error:
            self.problem = f"{path}: {error.strerror}"
        self.identified = build_id is not None
        """Whether the capture tells which build it was."""
        self.build_id = build_id or (self.image.build_id if self.image else None)

    @cached_property
    def table(self) -> CompactTable | None:
        """The compact unwind table; None, and `table_problem` says why, when there is none."""
        if self.image is None:
            return None
        from cfi_tables.table_check import TableError  # not above: whoever finds all in the cache does without NumPy

        try:
            debug = None
            if not self.image.has(".eh_frame"):
                # Code without .eh_frame has its CFI in .debug_frame, which stripping moves to the debug file.
                debug = find_debug_file(self.image).image
            table = table_for(self.image, debug)
            if table.machine != self._machine:
                # The walk has one machine's registers; another one's rules would index others.
                self.table_problem = _wrong_machine(self.path, table.machine, self._machine)
                return None
            return table
        except (ElfError, TableError) as error:
            self.table_problem = str(error)
            return None

    table_problem: str | None = None

    def table_content(self) -> Any:
        """The bytes of the table for the walk, None without one."""
        return None if self.table is None else self.table.data.data

    @cached_property
    def symbols(self) -> ModuleSymbols | None:
        """Functions, lines and inlined calls; None when the file cannot be read."""
        if self.image is None:
            return None
        from unwind.symbolize.module_symbols import ModuleSymbols

        return ModuleSymbols.open(self.image)

    def is_entry_code(self, address: int) -> bool:
        """True when `address` (file virtual) lies in the same small gap of the CFI as the file's entry point.

        In a file that has no CFI for its other functions either, nothing tells where the entry code ends.
        """
        if self.image is None or self.table is None or not 0 <= address - self.image.entry < _ENTRY_CODE_SIZE:
            return False
        addresses, _ = self.table.row_columns()
        start = self.table.text_range[0]
        entry = self.image.entry - start
        row, other = addresses.searchsorted([entry, address - start], side="right")
        return bool(row == other and 0 < row < len(addresses) and addresses[row] - entry < _ENTRY_CODE_SIZE)

    def bias(self, mapping: Mapping) -> int:
        """Run-time address minus file virtual address in `mapping`.

        The kernel maps a segment from the page that holds its first byte, so a mapping's file offset may lie
        before the segment's own (lld does not align them); of the segments that fit, the executable one counts.
        """
        if self.image is None:
            return mapping.start - mapping.file_offset
        best: int | None = None
        for segment in self.image.segments:
            if segment.type != PT_LOAD:
                continue
            begin = segment.offset - segment.offset % _PAGE
            if begin <= mapping.file_offset < segment.offset + max(segment.file_size, 1):
                candidate = mapping.start - (segment.address - segment.offset + mapping.file_offset)
                if segment.flags & PF_X:
                    return candidate
                best = candidate if best is None else best
        return best if best is not None else mapping.start - mapping.file_offset


def _wrong_machine(path: str, found: int, wanted: int) -> str:
    if wanted == EM_X86_64:
        return f"{path}: a file for ELF machine {found}, and stacks are walked on x86-64 only; trace the 64-bit program"
    return f"{path}: a file for ELF machine {found}, but code of machine {wanted} was running"


class ModuleCatalog:
    """All modules of a capture, by path and build-id.

    `open_image` opens the files, those of this machine's processes by default; `remedy` tells what to do about a file
    of another build. `machine` is the ELF machine number of the code that was running. The modules are made as `kind`.
    """

    def __init__(
        self,
        open_image: OpenImage | None = None,
        remedy: str = _LIVE_REMEDY,
        machine: int = EM_X86_64,
        kind: type[Module] = Module,
    ) -> None:
        self.machine = machine
        self._modules: dict[tuple[str, bytes | None], Module] = {}
        self._open_image = open_image or _open_live
        self._remedy = remedy
        self._kind = kind
        self._others: dict[int, ModuleCatalog] = {}

    def of_machine(self, machine: int) -> ModuleCatalog:
        """The catalog for code of that machine in the same capture: a 32-bit process has other files than the rest."""
        if machine == self.machine:
            return self
        if machine not in self._others:
            self._others[machine] = ModuleCatalog(self._open_image, self._remedy, machine, self._kind)
        return self._others[machine]

    def opened(self) -> list[Module]:
        """The modules that were asked for so far."""
        return [*self._modules.values(), *(module for each in self._others.values() for module in each.opened())]

    def module_for(self, mapping: Mapping, pid: int) -> Module | None:
        """The module that `mapping` of process `pid` maps; None for anonymous and special memory."""
        key = (mapping.path, mapping.build_id)
        module = self._modules.get(key)
        if module is None:
            is_file = mapping.path.startswith("/") and not mapping.path.startswith("//")
            if not is_file and mapping.path != "[vdso]":
                return None
            module = self._kind(
                mapping.path, mapping.build_id, lambda: self._open_image(mapping, pid), self._remedy, self.machine
            )
            self._modules[key] = module
        return module

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._modules.values())


def _open_live(mapping: Mapping, pid: int) -> ElfImage:
    return read_vdso(pid, mapping) if mapping.path == "[vdso]" else _open_mapped(mapping.path, pid)


def _open_mapped(path: str, pid: int) -> ElfImage:
    """Open `path` as process `pid` sees it: its root may differ from ours, and the file may be deleted.

    A file in the process's own mount namespace counts first; after the process is gone, our view of the path is
    what is left (a build-id in the mapping tells whether it is the same file).
    """
    plain = path.removesuffix(" (deleted)")
    # The process may end at any moment, even between two looks at its root.
    with suppress(OSError):
        image = ElfImage.open(f"/proc/{pid}/root{plain}")
        image.path = plain
        return image
    try:
        # Modules of the kernel are kept compressed.
        return open_image(plain) if ".ko." in os.path.basename(plain) else ElfImage.open(plain)
    except FileNotFoundError:
        raise FileNotFoundError(2, "the file is gone; keep it until the trace is read", plain) from None
