"""The files behind the mappings of a capture that comes from another machine, or from another day.

A file is found by its build-id among those that the capture's maker has named, else at its path under a root that
stands for the machine's. The vdso is in the capture itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping as Map
from pathlib import Path

from cfi_tables.elf_image import ElfError, ElfImage
from cfi_tables.image_file import open_image
from relay_reader.capture import Mapping

REMEDY = "give the files that were running: --sysroot DIR, the root of the machine that was traced or a copy of it"


class CaptureImages:
    """Opens images for a `ModuleCatalog`.

    `files` has paths by build-id, `images` what is in no file; `as_they_are` are paths on this machine.
    """

    def __init__(
        self, files: Map[bytes, str], images: Map[bytes, bytes], as_they_are: tuple[str, ...], sysroot: str = "/"
    ) -> None:
        self._files = files
        self._images = images
        self._as_they_are = as_they_are
        self._sysroot = sysroot

    def open(self, mapping: Mapping, pid: int) -> ElfImage:
        """The image behind `mapping`. Raises ElfError and OSError."""
        if mapping.path in self._as_they_are:
            return open_image(mapping.path)
        if mapping.path == "[vdso]":
            image = self._images.get(mapping.build_id or b"")
            if image is None:
                raise ElfError("[vdso]: the capture does not hold it; calls of it are not walked")
            return ElfImage.from_bytes(image, "[vdso]")
        named = self._files.get(mapping.build_id or b"")
        if named is not None and os.path.isfile(named):
            return ElfImage.open(named)
        path = mapping.path.removesuffix(" (deleted)")
        place = str(Path(self._sysroot, path.lstrip("/")))
        if not os.path.exists(place):
            raise FileNotFoundError(2, f"there is no such file; {REMEDY}", place)
        if not os.path.isfile(place):
            raise ElfError(f"{place}: no regular file; {REMEDY}")
        return ElfImage.open(place)
