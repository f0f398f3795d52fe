"""Where the split files of a program are: its package (.dwp), else the .dwo file that each skeleton unit names.

Data comes from skeleton units and the file system. Every unit is checked by its dwo_id: one of another build has
other functions at the same addresses. A unit that is not found, or refused, is noted with the paths and the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cfi_tables.elf_image import ElfError, ElfImage
from unwind.dwarf.damage import DwarfError, DwarfProblem, DwarfReason
from unwind.dwarf.split_info import SplitInfo

if TYPE_CHECKING:
    from unwind.dwarf.debug_info import DebugInfo
    from unwind.dwarf.unit import CompilationUnit


class SplitFiles:
    """The split files of one program, each opened once."""

    def __init__(self, info: DebugInfo) -> None:
        self._info = info
        self._opened: dict[str, SplitInfo | str | None] = {}
        self._units: dict[int, CompilationUnit | None] = {}

    def unit_of(self, skeleton: CompilationUnit) -> CompilationUnit | None:
        """The full unit of `skeleton`; None (noted) when it is not there. Raises DwarfError for a damaged skeleton."""
        if skeleton.offset not in self._units:
            self._units[skeleton.offset] = self._find(skeleton)
        return self._units[skeleton.offset]

    def _find(self, skeleton: CompilationUnit) -> CompilationUnit | None:
        identifier = skeleton.split_identifier
        name = skeleton.split_name
        if identifier is None or not name:
            self._note(skeleton, "the skeleton unit has no dwo_id or no dwo_name")
            return None
        files = list(dict.fromkeys(self._files(skeleton, name)))
        refused: list[str] = []
        for path in (*self._packages(), *files):
            found = self._open(path)
            if isinstance(found, SplitInfo):
                unit = found.unit_of(skeleton, identifier)
                if unit is not None:
                    return unit
                theirs = ", ".join(f"{each:016x}" for each in found.identifiers[:4]) or "none"
                refused.append(f"{path} is of another build: its dwo_id is {theirs}, not {identifier:016x}")
            elif found is not None:
                refused.append(found)
        if not any(os.path.exists(path) for path in files):
            refused.append("no file " + ", ".join(files))
        self._note(skeleton, "; ".join(refused))
        return None

    def _note(self, skeleton: CompilationUnit, detail: str) -> None:
        problem = DwarfProblem(DwarfReason.SPLIT, skeleton.section, skeleton.offset, skeleton.offset, detail)
        self._info.note_problem(problem)

    def _packages(self) -> Iterator[str]:
        for path in dict.fromkeys((self._info.program_path, self._info.image.path)):
            real = os.path.realpath(path)
            for stem in dict.fromkeys((path, real, real.removesuffix(".debug"))):
                yield f"{stem}.dwp"

    def _files(self, skeleton: CompilationUnit, name: str) -> Iterator[str]:
        """Where the unit says (§3.1.2), then beside the program, where a moved build tree often has it."""
        yield os.path.join(skeleton.compilation_directory or "", name)
        for path in dict.fromkeys((self._info.program_path, self._info.image.path)):
            folder = Path(os.path.realpath(path)).parent
            if not os.path.isabs(name):
                yield str(folder / name)
            yield str(folder / os.path.basename(name))

    def _open(self, path: str) -> SplitInfo | str | None:
        """The file opened, why it cannot be used, or None where there is none."""
        if path not in self._opened:
            found: SplitInfo | str | None = None
            try:
                if os.path.isfile(path):
                    found = SplitInfo(ElfImage.open(path), self._info)
            except ElfError as error:
                found = str(error)
            except OSError as error:
                found = f"{path}: {error.strerror}"
            except DwarfError:
                found = f"{path} has no .debug_info.dwo"
            self._opened[path] = found
        return self._opened[path]
