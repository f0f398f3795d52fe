"""Why a module's frames have no lines, and what would give them: said once a module, as data."""

from __future__ import annotations

from dataclasses import dataclass

from cfi_tables.debug_file import DebugFile
from cfi_tables.elf_image import ElfImage


@dataclass(frozen=True, slots=True)
class MissingDebug:
    """A module without usable debugging information."""

    path: str
    build_id: str | None
    """Hexadecimal; None when the module has none."""
    what: str
    """What is missing, and where it was looked for."""
    remedy: str
    """What to do to get lines."""


def missing_debug(image: ElfImage, searched: DebugFile | None) -> MissingDebug:
    """The report for `image`, after `searched` found no file with debugging information."""
    build_id = image.build_id.hex() if image.build_id else None
    what = "no .debug_info in the file"
    if searched is not None:
        what += f"; {searched.reason}" if searched.reason else f", nor in {searched.path}"
    remedy = "compile it with -g"
    if build_id:
        place = f"/usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
        remedy += f", or install its package's -dbg or -dbgsym package, which provides {place}"
    return MissingDebug(image.path, build_id, what, remedy)
