"""Why a module's frames have no lines, and what would give them: said once a module, as data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cfi_tables.debug_file import DebugFile
from cfi_tables.debuginfod import debuginfod_from_environment
from cfi_tables.elf_image import ElfImage
from unwind.symbolize.debug_package import debug_package, debug_packages, public_server


@dataclass(frozen=True, slots=True)
class MissingDebug:
    """A module without usable debugging information."""

    path: str
    build_id: str | None
    """Hexadecimal; None when the module has none."""
    what: str
    """What is missing, and where it was looked for."""
    refused: tuple[str, ...] = ()
    """Why each debug file that was there could not be used."""

    @property
    def remedy(self) -> str:
        """What to do to get lines, after what was refused. Asks the package manager: only for what is to be told."""
        return "; ".join((*self.refused, self._advice()))

    def _advice(self) -> str:
        owner = debug_package(self.path)
        if owner is not None:
            return owner.remedy + self._by_server()
        remedy = "compile it with -g"
        if self.build_id:
            place = f"/usr/lib/debug/.build-id/{self.build_id[:2]}/{self.build_id[2:]}.debug"
            remedy += f", or install its package's -dbg or -dbgsym package, which provides {place}"
        return remedy

    def _by_server(self) -> str:
        server = public_server()
        if not self.build_id or server is None or debuginfod_from_environment() is not None:
            return ""
        return f", or have it fetched (export DEBUGINFOD_URLS={server})"


def ask_for_all(found: Iterable[MissingDebug]) -> None:
    """Have the package manager asked once for what the remedies of all of `found` need."""
    debug_packages(each.path for each in found)


def missing_debug(image: ElfImage, searched: DebugFile | None) -> MissingDebug:
    """The report for `image`, after `searched` found no file with debugging information."""
    build_id = image.build_id.hex() if image.build_id else None
    what = "no .debug_info in the file"
    if searched is not None:
        what += f"; {searched.reason}" if searched.reason else f", nor in {searched.path}"
    return MissingDebug(image.path, build_id, what, searched.refused if searched is not None else ())
