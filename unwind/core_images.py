"""The files behind the mappings of a core file, which may come from another machine or another day.

Nothing of the processes that run now counts, even where one has the same pid. The program itself may be named by the
user, the other files lie under a root that stands for the machine's. The vdso is read from the core file's memory.
"""

from __future__ import annotations

import os
from pathlib import Path

from cfi_tables.elf_image import ElfError, ElfImage
from relay_reader.capture import Mapping, MemoryReader

REMEDY = "give the files that were running: -e PROGRAM for the program, --sysroot DIR for all"


class CoreImages:
    """Opens images for a `ModuleCatalog`.

    `program` is the path of the executed file in the core file, `given` the file to take for it (None: the one of that
    path), `read` the memory.
    """

    def __init__(self, read: MemoryReader, program: str | None, given: str | None, sysroot: str = "/") -> None:
        self._read = read
        self._program = program
        self._given = given
        self._sysroot = sysroot

    def open(self, mapping: Mapping, pid: int) -> ElfImage:
        """The image behind `mapping`. Raises ElfError and OSError."""
        if mapping.path == "[vdso]":
            data = self._read(mapping.start, mapping.end - mapping.start)
            if len(data) < mapping.end - mapping.start:
                raise ElfError("[vdso]: the core file does not hold all of it; calls of it are not walked")
            return ElfImage.from_bytes(data, "[vdso]")
        if self._given is not None and self._program is None and mapping.build_id is not None:
            # A damaged core file may not tell what was executed; a build-id does.
            given = ElfImage.open(self._given)
            if given.build_id == mapping.build_id:
                return given
        return self.file(mapping.path)

    def file(self, mapped: str) -> ElfImage:
        """The file that was mapped by this path. Raises ElfError and OSError."""
        if self._given is not None and mapped == self._program:
            return ElfImage.open(self._given)
        path = mapped.removesuffix(" (deleted)")
        place = str(Path(self._sysroot, path.lstrip("/")))
        if not os.path.exists(place):
            raise FileNotFoundError(2, f"there is no such file; {REMEDY}", place)
        if not os.path.isfile(place):
            raise ElfError(f"{place}: no regular file; {REMEDY}")
        return ElfImage.open(place)
