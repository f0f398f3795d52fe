"""The files behind the mappings of a capture file, which comes from another machine or another day.

A file of the build that ran is found at its old place under a root that stands for the machine's, then in what the
capture has kept of it, then by its build-id: in the folders of debug files, among what runs here, from a debuginfod
server. The vdso is in the capture.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Mapping as Map
from pathlib import Path

from cfi_tables.build_id_search import BuildIdError, find_build_id
from cfi_tables.debug_file import DEBUG_DIRECTORIES
from cfi_tables.elf_image import ElfError, ElfImage
from cfi_tables.image_file import open_image
from relay_reader.capture import Mapping
from unwind.kept_file import KeptFile

REMEDY = (
    "give the files that were running: --sysroot DIR, the root of the machine that was traced or a copy of it; "
    "-e PROGRAM; or servers that have them (DEBUGINFOD_URLS)"
)


KERNEL_REMEDY = "name the traced kernel's vmlinux with --vmlinux, or servers that have it (DEBUGINFOD_URLS)"


class CaptureFileImages:
    """Opens images for a `ModuleCatalog`.

    `images` has what is in no file, by build-id; `kept` gives what was kept of a file, b"" for nothing; `program` is a
    file that the user has named; `as_they_are` are paths on this machine.
    """

    def __init__(
        self,
        images: Map[bytes, bytes],
        kept: Callable[[bytes], bytes],
        sysroot: str = "/",
        program: str | None = None,
        as_they_are: tuple[str, ...] = (),
    ) -> None:
        self._images = images
        self._kept = kept
        self._sysroot = sysroot
        self._as_they_are = as_they_are
        self._given = ElfImage.open(program) if program is not None else None
        debug_directories = [str(Path(sysroot, each.lstrip("/"))) for each in DEBUG_DIRECTORIES]
        self._directories = tuple(dict.fromkeys([*debug_directories, *DEBUG_DIRECTORIES]))

    def open(self, mapping: Mapping, pid: int) -> ElfImage:
        """The image behind `mapping`. Raises ElfError and OSError."""
        if mapping.path in self._as_they_are:
            return self._of_kernel(mapping)
        if mapping.path == "[vdso]":
            image = self._images.get(mapping.build_id or b"")
            if image is None:
                raise ElfError("[vdso]: the capture does not hold it; calls of it are not walked")
            return ElfImage.from_bytes(image, "[vdso]")
        given, build_id = self._given, mapping.build_id
        if given is not None and given.build_id is not None and given.build_id == build_id:
            return given
        path = mapping.path.removesuffix(" (deleted)")
        place = str(Path(self._sysroot, path.lstrip("/")))
        found: ElfImage | None = None
        if os.path.isfile(place):
            found = ElfImage.open(place)
            if build_id is None or found.build_id in (None, build_id):
                return found
        kept = self._kept(build_id) if build_id else b""
        if kept:
            return KeptFile(kept, mapping.path)
        by_build_id = self._by_build_id(build_id)
        if by_build_id is not None:
            return by_build_id
        if found is not None:
            return found  # of another build, which is said of it
        if os.path.exists(place):
            raise ElfError(f"{place}: no regular file; {REMEDY}")
        raise FileNotFoundError(2, f"there is no such file; {REMEDY}", place)

    def _of_kernel(self, mapping: Mapping) -> ElfImage:
        """A file of the kernel, as it is here: where the capture says, or anywhere by its build-id."""
        if not os.path.exists(mapping.path):
            found = self._by_build_id(mapping.build_id)
            if found is None:
                raise FileNotFoundError(2, f"there is no such file; {KERNEL_REMEDY}", mapping.path)
            return found
        return open_image(mapping.path)

    def _by_build_id(self, build_id: bytes | None) -> ElfImage | None:
        if not build_id:
            return None
        try:
            return find_build_id(build_id, self._directories)
        except (BuildIdError, ElfError, OSError):
            return None  # what is said of the file at its old place helps more
