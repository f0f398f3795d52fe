"""The files behind the mappings of a recording that holds none of them: perf.data, of this machine or another one.

A file is looked for where it was, under a root that stands for the machine's; as the process sees it, while that runs
(its mount namespace may have another file there); in perf's own store of files by build-id; and wherever a file of a
build-id is found on this machine. The build-id decides, where the recording tells it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from cfi_tables.build_id_search import BuildIdError, find_build_id
from cfi_tables.elf_image import ElfError, ElfImage
from relay_reader.capture import Mapping
from unwind.late_mapping import executable_mapping
from unwind.vdso import own_vdso

REMEDY = "give the files that were running: -e PROGRAM for the program, --sysroot DIR for all"
_PERF_STORE = "~/.debug"
"""Where `perf record` keeps files by their build-ids (perf-buildid-cache(1))."""


class RecordedImages:
    """Opens images for a `ModuleCatalog`.

    `program` is a file to take for one of its build-id, or of its name where the recording tells no build-id.
    `of_this_kernel` says whether the recording is of the kernel that runs here.
    """

    def __init__(self, program: str | None, sysroot: str, of_this_kernel: Callable[[], bool]) -> None:
        self._of_this_kernel = of_this_kernel
        self._program = program
        self._sysroot = sysroot

    def open(self, mapping: Mapping, pid: int) -> ElfImage:
        """The image behind `mapping`. Raises ElfError and OSError."""
        if mapping.path == "[vdso]":
            return self._vdso(mapping)
        path = mapping.path.removesuffix(" (deleted)")
        other: ElfImage | None = None
        for place in self._places(mapping, path, pid):
            if not os.path.isfile(place):
                continue
            try:
                image = ElfImage.open(place)
            except (ElfError, OSError):
                if mapping.build_id is None:
                    raise
                continue
            if mapping.build_id is None or image.build_id in (mapping.build_id, None):
                return image
            other = other or image
        if mapping.build_id is not None:
            try:
                return find_build_id(mapping.build_id)
            except BuildIdError:
                pass
        if other is not None:
            return other  # the module says that it is of another build
        place = str(Path(self._sysroot, path.lstrip("/")))
        if os.path.exists(place):
            raise ElfError(f"{place}: no regular file, or none that can be read; {REMEDY}")
        raise FileNotFoundError(2, f"there is no such file; {REMEDY}", place)

    def _places(self, mapping: Mapping, path: str, pid: int) -> Iterator[str]:
        """Where the file may be, the likeliest first."""
        if self._program is not None and (
            mapping.build_id is not None or os.path.basename(self._program) == os.path.basename(path)
        ):
            yield self._program
        if self._sysroot == "/":
            mapped = executable_mapping(pid, mapping.start)
            if mapped is not None and mapped.path == mapping.path:
                yield f"/proc/{pid}/root{path}"
        yield str(Path(self._sysroot, path.lstrip("/")))
        if mapping.build_id is not None:
            text = mapping.build_id.hex()
            yield os.path.expanduser(f"{_PERF_STORE}/.build-id/{text[:2]}/{text[2:]}/elf")

    def _vdso(self, mapping: Mapping) -> ElfImage:
        """The vdso, which is in no file but perf's store; one kernel gives every 64-bit process the same."""
        own = own_vdso()
        if own is not None:
            same = self._of_this_kernel() if mapping.build_id is None else own.build_id == mapping.build_id
            if same:
                return own
        if mapping.build_id is not None:
            text = mapping.build_id.hex()
            stored = os.path.expanduser(f"{_PERF_STORE}/.build-id/{text[:2]}/{text[2:]}/vdso")
            if os.path.isfile(stored):
                return ElfImage.open(stored)
        raise ElfError(
            "[vdso]: the recording does not hold it, nor does perf's store (~/.debug); calls of it are not walked"
        )
