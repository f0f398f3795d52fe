"""From probe points in the kernel to places: by the debug information of vmlinux and modules, else by symbols alone.

Nothing is run. Inlined copies, statements and files are found as in user space (`FunctionSearch`); what has no symbol
of its own is reached from one before it (`places`). Without debug information plain functions have places still.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path

from cfi_tables.elf_image import ElfImage
from ptap.kernel_module.kernel_point import KernelPoint
from ptap.kernel_module.module_files import ModuleFiles
from ptap.kernel_module.places import KernelPlace, KernelSymbols
from ptap.kernel_module.tracepoint_group import tracepoint_group
from ptap.probe.point import ProbeKind
from ptap.probe.resolve import ProbeNotFound
from unwind.symbolize.function_search import FunctionPlace, FunctionSearch, StatementPlace
from unwind.symbolize.module_symbols import ModuleSymbols

_BY_SYMBOLS = (ProbeKind.CALL, ProbeKind.RETURN)
"""Kinds that have places at symbols only."""


class CodeFile:
    """A vmlinux or a module's file, with its symbols and what is searched in it."""

    def __init__(self, image: ElfImage, symbols: KernelSymbols) -> None:
        self.image = image
        self.symbols = symbols

    @cached_property
    def search(self) -> FunctionSearch | None:
        """None without debug information."""
        return _function_search(self.image) if self.image.has(".debug_info") else None


@lru_cache(maxsize=1)
def _function_search(image: ElfImage) -> FunctionSearch:
    """Kept for the next session with that kernel: vmlinux takes seconds."""
    return FunctionSearch(ModuleSymbols.open(image))


_KEPT_SYMBOLS: dict[tuple[str, bytes], KernelSymbols] = {}
"""Of the last vmlinux with a build-id: for the next session with that kernel, as reading them takes a second."""


def _symbols_of(vmlinux: ElfImage) -> KernelSymbols:
    if vmlinux.build_id is None:
        return KernelSymbols.of_vmlinux(vmlinux)
    key = str(vmlinux.path), vmlinux.build_id
    if key not in _KEPT_SYMBOLS:
        _KEPT_SYMBOLS.clear()
        _KEPT_SYMBOLS[key] = KernelSymbols.of_vmlinux(vmlinux)
    return _KEPT_SYMBOLS[key]


class KernelResolver:
    """Resolves the probe points of one kernel; each file is opened once. Symbols are vmlinux's or `system_map`'s."""

    def __init__(self, vmlinux: ElfImage, system_map: str | None = None, modules: ModuleFiles | None = None) -> None:
        symbols = KernelSymbols.of_system_map(system_map) if system_map else _symbols_of(vmlinux)
        self.vmlinux = CodeFile(vmlinux, symbols)
        self._files = modules or ModuleFiles()
        self._modules: dict[str, CodeFile] = {}

    @property
    def symbols(self) -> KernelSymbols:
        """The kernel's own."""
        return self.vmlinux.symbols

    def module(self, name: str) -> CodeFile:
        """A module's file. Raises ProbeNotFound, ElfError and OSError."""
        if name not in self._modules:
            image = self._files.open(name)
            self._modules[name] = CodeFile(image, KernelSymbols.of_module(image, name))
        return self._modules[name]

    def places(self, point: KernelPoint, *, with_lines: bool = False) -> list[KernelPlace]:
        """The places of `point`, by address; `with_lines`, with file and line too where that takes longer.

        Raises ProbeNotFound, ElfError and OSError.
        """
        if point.kind is ProbeKind.TIMER:
            return [KernelPlace(point, "", 0, "", point.frequency or 0)]
        if point.kind is ProbeKind.TRACEPOINT:
            return self._tracepoints(point)
        file = self.module(point.module) if point.module else self.vmlinux
        if point.address is not None:
            found = [_address_place(point, file)]
        elif point.kind is ProbeKind.STATEMENT:
            found = _statements(point, file)
        else:
            found = _functions(point, file, with_lines)
        if point.module is None:
            found = self._that_stay(point, found)
        unique = {(each.address, each.function, each.inlined_into): each for each in reversed(found)}
        return _told_apart(sorted(unique.values(), key=lambda each: each.address))

    def _that_stay(self, point: KernelPoint, places: list[KernelPlace]) -> list[KernelPlace]:
        """Without those in the kernel's own code of its start, which is gone when something can be probed."""
        staying = [place for place in places if not self.symbols.is_initial(place.address)]
        if not staying:
            raise ProbeNotFound(
                f"{point.text}: {places[0].function} is code of the kernel's start (.init.text), which is gone when "
                "probes can be set"
            )
        return staying

    def _tracepoints(self, point: KernelPoint) -> list[KernelPlace]:
        """Those of the module that `point` names; else the kernel's own or, where it has none, of modules by file."""
        if point.module:
            return self._tracepoints_of(point, [point.module])
        try:
            return self._tracepoints_of(point, [None])
        except ProbeNotFound:
            in_modules = [name for name in self._files.named if self.module(name).symbols.tracepoints("*")]
            if not in_modules:
                raise
            return self._tracepoints_of(point, in_modules)

    def _tracepoints_of(self, point: KernelPoint, owners: Sequence[str | None]) -> list[KernelPlace]:
        """Those in the files of `owners`: modules, or None for vmlinux. Raises ProbeNotFound."""
        assert point.tracepoint is not None
        found = []
        groups: set[str | None] = set()
        files = {owner: self.module(owner) if owner else self.vmlinux for owner in owners}
        for owner, file in files.items():
            for name in file.symbols.tracepoints(point.tracepoint):
                group = tracepoint_group(file.image, name) if point.group else None
                if group in (None, point.group):
                    symbol = f"{owner}:{name}" if owner else name
                    found.append(KernelPlace(point, name, 0, symbol, 0, optional=point.is_wild))
                else:
                    groups.add(group)
        if found:
            return found
        if groups:
            raise ProbeNotFound(f"{point.text}: that tracepoint belongs to {', '.join(sorted(map(str, groups)))}")
        paths = ", ".join(file.symbols.path for file in files.values())
        raise ProbeNotFound(f"{point.text}: there is no tracepoint of that name in {paths}. {_OTHER_TRACEPOINTS}")


_OTHER_TRACEPOINTS = (
    'One of a module is module("M").trace("NAME"); events of single system calls are made of '
    'kernel.trace("sys_enter") and "sys_exit"'
)


def _told_apart(places: list[KernelPlace]) -> list[KernelPlace]:
    """Marks functions of one name that are declared in several places."""
    declared = Counter(name for name, _, _ in {(each.function, each.file, each.line) for each in places})
    return [replace(each, one_of_several=declared[each.function] > 1) for each in places]


def _reached(point: KernelPoint, file: CodeFile, address: int, name: str) -> tuple[str, int]:
    found = file.symbols.reach(address, name)
    if found is None:
        raise ProbeNotFound(f"{point.text}: no symbol before {name} at {address:#x} has a name of its own")
    return found


def _address_place(point: KernelPoint, file: CodeFile) -> KernelPlace:
    assert point.address is not None
    if not file.symbols.is_code(point.address):
        raise ProbeNotFound(f"{point.text}: {point.address:#x} is no address of code in {file.symbols.path}")
    symbol, offset = _reached(point, file, point.address, "")
    return KernelPlace(point, symbol, point.address, symbol, offset)


def _search_of(point: KernelPoint, file: CodeFile) -> FunctionSearch:
    if file.search is None:
        raise ProbeNotFound(
            f"{point.text}: {file.image.path} has no debug information, which tells files, lines and inlined copies; "
            "name that of the kernel's -dbg package, or probe a function by its name"
        )
    return file.search


def _statements(point: KernelPoint, file: CodeFile) -> list[KernelPlace]:
    assert point.line is not None
    search = _search_of(point, file)
    found = search.statements(point.function, point.file, point.line)
    if not found:
        lines = search.nearest_lines(point.function, point.file, point.line)
        told = f"the nearest lines with code: {', '.join(map(str, lines))}" if lines else "no function like that there"
        raise ProbeNotFound(f"{point.text}: no code of {point.function} at line {point.line}; {told}")
    return [_statement_place(point, file, each) for each in found]


def _statement_place(point: KernelPoint, file: CodeFile, place: StatementPlace) -> KernelPlace:
    reached = _reached(point, file, place.address, place.function)
    return KernelPlace(
        point, place.function, place.address, *reached, place.file, place.line, place.owner, optional=point.is_wild
    )


def _functions(point: KernelPoint, file: CodeFile, with_lines: bool) -> list[KernelPlace]:
    by_symbols = file.symbols.functions(point.function)
    plain = point.kind in _BY_SYMBOLS and point.file is None and by_symbols and not with_lines
    if plain or (file.search is None and point.file is None and point.kind is not ProbeKind.INLINE):
        return file.symbols.places(point)
    search = _search_of(point, file)
    found = search.functions(point.function, point.file, point.line)
    if not found:
        nearest = search.nearest_names(point.function)
        told = f"; the nearest names: {', '.join(nearest)}" if nearest else ""
        raise ProbeNotFound(f"{point.text}: no function {point.function} at that place in {file.image.path}{told}")
    return [_function_place(point, file, each) for each in _of_kind(point, found)]


def _of_kind(point: KernelPoint, found: Sequence[FunctionPlace]) -> Sequence[FunctionPlace]:
    """Those that the point's variant means."""
    if point.kind is ProbeKind.FUNCTION:
        return found
    inlined = point.kind is ProbeKind.INLINE
    chosen = [each for each in found if each.inlined == inlined]
    if not chosen and inlined:
        raise ProbeNotFound(f"{point.text}: no inlined copy of {point.function}; probe it with .function")
    if not chosen:
        owners = sorted({each.owner for each in found if each.owner})
        raise ProbeNotFound(
            f"{point.text}: {point.function} is inlined everywhere (into {', '.join(owners[:4])}), so it has no call "
            "and no return of its own: probe it with .function or .inline"
        )
    return chosen


def _function_place(point: KernelPoint, file: CodeFile, function: FunctionPlace) -> KernelPlace:
    return KernelPlace(
        point,
        function.name,
        function.address,
        *_reached(point, file, function.address, function.linkage_name or function.name),
        str(Path(function.file)) if function.file else None,
        function.line,
        function.owner if function.inlined else None,
        optional=point.is_wild or function.inlined,
    )
