"""From probe points to places: which addresses of which files a probe means on this target.

Nothing is run. Function names, inlined copies and statement lines come from the module's debug information, plain
function names from its symbol table where there is none. What cannot be found is an error that names the nearest.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from cfi_tables.elf_image import PF_X, PT_LOAD, ElfError, ElfImage
from ptap.backend.live_capture import PlaceKind, ProbePlace
from ptap.probe.point import ProbeKind, ProbePoint
from ptap.probe.program_path import (
    check_processes,
    executed_program,
    find_modules,
    find_program,
    has_program,
    program_of,
)
from unwind.dwarf.die import Die
from unwind.symbolize.function_search import FunctionPlace, FunctionSearch, StatementPlace
from unwind.symbolize.module_symbols import ModuleSymbols

_EM_X86_64 = 62
_MACHINES = {3: "32-bit x86", 40: "arm", 183: "aarch64", 243: "riscv"}
"""e_machine in words (elf.h), for those that are met."""


class ProbeNotFound(Exception):
    """A probe point names nothing on this target; the text names what is nearest."""


@dataclass(frozen=True, slots=True)
class ResolvedPlace:
    """One place of a probe point."""

    place: ProbePlace
    probe: str
    """How the place is named in traces: the probe point with the one function it resolved to."""
    address: int
    """File virtual address."""
    file: str | None
    line: int | None
    inlined_into: str | None
    """The function that an inlined copy lies in."""
    die: Die | None
    """The probed function or inlined copy, when its first instruction is the place."""
    selects: bool = False
    """The function only selects an implementation, once, when the program starts (an IFUNC, as memcpy is)."""


class Resolver:
    """Resolves the probe points of one target; each file is opened once."""

    def __init__(self, command: Sequence[str], pids: Sequence[int]) -> None:
        self._command = find_program(command[0]) if command else None
        self._pids = tuple(pids)
        check_processes(self._pids)
        self._searches: dict[str, tuple[ElfImage, FunctionSearch]] = {}

    def resolve(self, point: ProbePoint) -> list[ResolvedPlace]:
        """Places of `point`, sorted by address. Raises ProbeNotFound, PathNotFound, ElfError."""
        found: list[ResolvedPlace] = []
        failures: list[ProbeNotFound] = []
        for path in self._paths_of(point):
            try:
                found += self._resolve_in(point, path)
            except ProbeNotFound as error:
                failures.append(error)
        if not found:
            raise failures[0]
        return found

    def build_id(self, path: str) -> str | None:
        """The build-id of a file that places were found in, in hexadecimal digits."""
        build_id = self._search(path)[0].build_id
        return build_id.hex() if build_id is not None else None

    def _resolve_in(self, point: ProbePoint, path: str) -> list[ResolvedPlace]:
        image, search = self._search(path)
        if point.address is not None:
            places = [_address_place(point, path, image)]
        elif point.kind is ProbeKind.STATEMENT:
            places = self._statements(point, path, image, search)
        else:
            places = self._functions(point, path, image, search)
        # Where a function begins with the inlined copy of another, both are entered there.
        unique = {
            (each.place.file_offset, each.place.kind, each.probe if each.inlined_into else ""): each
            for each in reversed(places)
        }
        return sorted(unique.values(), key=lambda each: each.address)

    def _paths_of(self, point: ProbePoint) -> list[str]:
        programs = [program_of(pid) for pid in self._pids if point.path is None or not has_program(pid)]
        if point.path is not None:
            return find_modules(point.path, self._command, self._pids)
        if self._command is not None:
            return [executed_program(self._command)]
        if programs:
            return list(dict.fromkeys(programs))
        raise ProbeNotFound(f'{point.text}: process without ("PATH") needs a command or -p PID')

    def _search(self, path: str) -> tuple[ElfImage, FunctionSearch]:
        if path not in self._searches:
            image = ElfImage.open(path)
            if image.machine != _EM_X86_64:
                name = _MACHINES.get(image.machine, f"ELF machine {image.machine}")
                raise ProbeNotFound(f"{path}: a file for {name}; this version probes 64-bit x86 programs only")
            self._searches[path] = (image, FunctionSearch(ModuleSymbols.open(image)))
        return self._searches[path]

    def _functions(self, point: ProbePoint, path: str, image: ElfImage, search: FunctionSearch) -> list[ResolvedPlace]:
        found = search.functions(point.function, point.file, point.line)
        if not found:
            raise ProbeNotFound(_no_function(point, path, search))
        if point.kind in (ProbeKind.CALL, ProbeKind.RETURN):
            chosen = [each for each in found if not each.inlined]
            if not chosen:
                raise ProbeNotFound(
                    f"{point.text}: {point.function} is inlined everywhere, so it has no call and no return "
                    "of its own: probe it with .function or .inline"
                )
        elif point.kind is ProbeKind.INLINE:
            chosen = [each for each in found if each.inlined]
            if not chosen:
                raise ProbeNotFound(f"{point.text}: no inlined copy of {point.function}; probe it with .function")
        else:
            chosen = found
        return [self._function_place(point, path, image, each) for each in chosen]

    def _function_place(self, point: ProbePoint, path: str, image: ElfImage, function: FunctionPlace) -> ResolvedPlace:
        returns = point.kind is ProbeKind.RETURN
        # Without optimization arguments reach their places in the prologue, so that is where the probe goes.
        at_entry = returns or function.inlined or function.optimized
        address = function.address if at_entry else function.after_prologue
        suffix = ".return" if returns else ".inline" if function.inlined else ""
        position = f"@{function.file}:{function.line}" if function.file and function.line else ""
        return ResolvedPlace(
            place=_place(path, image, address, PlaceKind.RETURN if returns else PlaceKind.ENTRY),
            probe=f'process("{point.path or path}").function("{function.name}{_base(position)}"){suffix}',
            address=address,
            file=function.file,
            line=function.line,
            inlined_into=function.owner if function.inlined else None,
            die=function.die,
            selects=function.selects,
        )

    def _statements(self, point: ProbePoint, path: str, image: ElfImage, search: FunctionSearch) -> list[ResolvedPlace]:
        assert point.line is not None
        found = search.statements(point.function, point.file, point.line)
        if not found:
            lines = search.nearest_lines(point.function, point.file, point.line)
            if lines:
                raise ProbeNotFound(
                    f"{point.text}: no code of {point.function} at line {point.line}; the nearest lines with "
                    f"code: {', '.join(map(str, lines))}"
                )
            raise ProbeNotFound(_no_function(point, path, search))
        return [
            ResolvedPlace(
                place=_place(path, image, each.address, PlaceKind.ENTRY),
                probe=_statement_text(point.path or path, each),
                address=each.address,
                file=each.file,
                line=each.line,
                inlined_into=each.owner,
                die=None,
            )
            for each in found
        ]


def _statement_text(path: str, place: StatementPlace) -> str:
    position = _base(f"@{place.file}:{place.line}")
    return f'process("{path}").statement("{place.function}{position}")'


def _base(position: str) -> str:
    """`@dir/file.c:12` as `@file.c:12`."""
    return "@" + os.path.basename(position[1:]) if position else ""


def _place(path: str, image: ElfImage, address: int, kind: PlaceKind) -> ProbePlace:
    offset = image.address_to_offset(address)
    if offset is None:
        raise ElfError(f"{path}: address {address:#x} from its debug information lies in no segment of the file")
    return ProbePlace(path, offset, kind)


def _address_place(point: ProbePoint, path: str, image: ElfImage) -> ResolvedPlace:
    assert point.address is not None
    executable = any(
        segment.type == PT_LOAD and segment.flags & PF_X and 0 <= point.address - segment.address < segment.file_size
        for segment in image.segments
    )
    if not executable:
        raise ProbeNotFound(f"{point.text}: {point.address:#x} is no address of code in {path} (see `ptap list`)")
    place = _place(path, image, point.address, PlaceKind.ENTRY)
    probe = f'process("{point.path or path}").statement({point.address:#x})'
    return ResolvedPlace(place, probe, point.address, None, None, None, None)


def _no_function(point: ProbePoint, path: str, search: FunctionSearch) -> str:
    nearest = search.nearest_names(point.function)
    text = f"{point.text}: no function {point.function} in {path}"
    if point.file is not None:
        text = f"{point.text}: no function {point.function} at that place in {path}"
        files = search.nearest_files(point.file)
        if files:
            text += f"; source files: {', '.join(files)}"
    if nearest:
        text += f"; the nearest names: {', '.join(nearest)}"
    elif search.symbols.missing is None:
        text += f'; `ptap list \'process("{point.path or path}").function("*")\'` shows what there is'
    missing = search.symbols.missing
    if missing is not None:
        text += f" ({missing.remedy})"
    return text
