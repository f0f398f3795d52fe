"""Places in programs and libraries that a log names → lookups in the files that they are of.

A file is the one at its path, below the sysroot, or wherever one with the log's build-id is. One of another build is
refused: by its build-id where the log has it, else where a symbol does not lie as the log says.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cfi_tables.build_id_search import BuildIdError, find_build_id
from cfi_tables.elf_image import ET_EXEC, PT_LOAD, ElfError, ElfImage
from cfi_tables.symbol_table import SHN_UNDEF, symbols
from ptap.text_log.logged_frame import Counted, FilePlace
from ptap.text_log.lookup import Lookup, Miss
from unwind.symbolize.symbolizer import Symbolizer

_PAGE = 4096
_REMEMBERED = 4096
"""Files that are kept open, or known not to be there."""
_SIGNAL_RETURNS = {
    62: b"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05",  # x86-64: mov $__NR_rt_sigreturn, %rax; syscall
    183: b"\x68\x11\x80\xd2\x01\x00\x00\xd4",  # aarch64: mov x8, #__NR_rt_sigreturn; svc #0
}
"""The code that a signal handler returns to, by e_machine: as gdb and libgcc recognize it."""


@dataclass
class _File:
    """One file that a log names."""

    symbolizer: Symbolizer

    @property
    def image(self) -> ElfImage:
        return self.symbolizer.image

    @cached_property
    def first_page(self) -> int:
        """The address of the file's first page in memory."""
        loaded = [each.address for each in self.image.segments if each.type == PT_LOAD]
        return min(loaded, default=0) & -_PAGE

    def symbol_addresses(self, name: str) -> list[int]:
        """Every address of a symbol; as dladdr(3) looks, at those for other files first. Raises ElfError."""
        stem = name.partition("@")[0]
        for section in (".dynsym", ".symtab"):
            table = symbols(self.image, section)
            rows = [] if table is None else [row for row in table.find(stem) if table.section[row] != SHN_UNDEF]
            if table is not None and rows:
                return sorted(set(np.asarray(table.value[rows]).tolist()))
        return []


class FileSources:
    """The files that a log names, each opened once."""

    def __init__(self, sysroot: str = "/") -> None:
        self._sysroot = sysroot
        self._files: dict[tuple[str, str | None], _File | Miss] = {}

    def lookup(self, place: FilePlace) -> Lookup | Miss:
        """Where to look, or why nowhere."""
        file = self._file(place.path, place.build_id)
        if isinstance(file, Miss):
            return file
        try:
            address = self._address(file, place)
        except ElfError as error:
            return Miss(str(error))
        if isinstance(address, Miss):
            return address
        behind = 0 if place.exact or self._is_signal_return(file, address) else 1
        shown = place.address if place.address is not None else address
        return Lookup(file.symbolizer, ((address - behind) % (1 << 64),), (shown,), behind, "user")

    def is_signal_return(self, place: FilePlace) -> bool:
        """Whether a signal handler returns to it: what comes next was interrupted, and called nothing."""
        file = self._file(place.path, place.build_id)
        if isinstance(file, Miss):
            return False
        try:
            address = self._address(file, place)
        except ElfError:
            return False
        return isinstance(address, int) and self._is_signal_return(file, address)

    def problems(self) -> list[str]:
        """What of the files could not be used, and what lacks lines."""
        found = []
        for file in self._files.values():
            if isinstance(file, Miss):
                continue
            found += [f"{file.image.path}: {problem}" for problem in file.symbolizer.problems]
        return found

    def _is_signal_return(self, file: _File, address: int) -> bool:
        code = _SIGNAL_RETURNS.get(file.image.machine)
        return code is not None and file.image.read(address, len(code)) == code

    def _address(self, file: _File, place: FilePlace) -> int | Miss:
        """The virtual address in the file, or why it is not known. Raises ElfError."""
        if place.counted is Counted.FROM_BASE:
            return self._unmoved(file, place, place.number)
        if place.counted is Counted.FROM_FIRST_PAGE:
            return file.first_page + place.number
        if place.counted is Counted.FROM_FILE_START:
            mapped = file.image.offset_to_address(place.number)
            if mapped is None:
                return Miss(f"{file.image.path}: no such part of it is mapped", hex(place.number))
            return mapped
        starts = file.symbol_addresses(place.symbol or "")
        if not starts:
            return Miss(f"{file.image.path} is of another build than the log: it lacks symbols", place.symbol)
        found = [self._unmoved(file, place, start + place.number) for start in starts]
        fitting = [each for each in found if isinstance(each, int)]
        return fitting[0] if len(fitting) == 1 else found[0] if not fitting else _several(file, place)

    def _unmoved(self, file: _File, place: FilePlace, address: int) -> int | Miss:
        """`address`, where it can be that of the place's address in memory: files are moved by whole pages."""
        if place.address is None:
            return address
        moved = place.address - address
        if moved % _PAGE and place.counted is Counted.FROM_BASE:
            return Miss("an address and the offset beside it do not belong together", hex(place.address))
        if moved % _PAGE or (file.image.file_type == ET_EXEC and moved):
            return Miss(
                f"{file.image.path} is of another build than the log: code is not where the log has it",
                place.symbol or hex(place.number),
            )
        return address

    def _file(self, path: str, build_id: str | None) -> _File | Miss:
        key = (path, build_id)
        if key not in self._files:
            if len(self._files) >= _REMEMBERED:
                self._files.clear()
            self._files[key] = self._open(path, build_id)
        return self._files[key]

    def _open(self, name: str, build_id: str | None) -> _File | Miss:
        image, problem = self._at_path(name)
        theirs = image.build_id.hex() if image is not None and image.build_id else None
        if image is not None and build_id not in (None, theirs):
            problem = (
                f"{image.path} is of another build than the log: its build-id is {theirs or 'none'}, the log's "
                f"{build_id}"
            )
            image = None
        if image is None and build_id is not None:
            try:
                image = find_build_id(bytes.fromhex(build_id))
            except (BuildIdError, ElfError, OSError, ValueError) as error:
                problem = f"{problem}; {error}" if isinstance(error, BuildIdError) else problem
        return _File(Symbolizer(image)) if image is not None else Miss(problem)

    def _at_path(self, name: str) -> tuple[ElfImage | None, str]:
        """The file at its path; the other is why there is none."""
        path = self._path(name)
        if path is None:
            return (
                None,
                f"{name}: there is no file of that name (it may have been at a path that the log does not tell)",
            )
        try:
            if not os.path.isfile(path):
                return (
                    None,
                    f"{path}: there is no such file; name the folder that it lies in as at its place (--sysroot)",
                )
            return ElfImage.open(path), ""
        except OSError as error:
            return None, f"{path}: {error.strerror}"
        except (ElfError, ValueError) as error:
            return None, str(error)

    def _path(self, name: str) -> str | None:
        if "\0" in name:
            return None
        if name.startswith("/"):
            return os.path.join(self._sysroot, name.lstrip("/")) if self._sysroot != "/" else name
        if "/" in name:
            return name
        # A name alone: a program that a shell has found, or a library, of which some tools show no more.
        from ptap.probe.program_path import PathNotFound, find_modules

        found = shutil.which(name)
        if found is None and ".so" not in name:
            found = name if os.path.isfile(name) else None
        elif found is None:
            try:
                (found, *_) = find_modules(name, None, ())
            except PathNotFound:
                found = name if os.path.isfile(name) else None
        return found


def _several(file: _File, place: FilePlace) -> Miss:
    return Miss(
        f"{file.image.path} has several symbols of one name: which one the log means is not known", place.symbol
    )
