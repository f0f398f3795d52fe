"""Why a symbolization tool says something else than this project, each cause with the fact that shows it.

Facts come from the file's symbol table and sections as pyelftools reads them, from the attributes of the entry that a
frame is of, and from the other tool. A difference of which no cause can be shown has none, and is a failure.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from elftools.elf.elffile import ELFFile
from symbolization_tools import ToolFrame

from cfi_tables.debug_file import find_debug_file
from cfi_tables.elf_image import ElfImage
from unwind.dwarf import constants as C
from unwind.symbolize.function_name import demangled
from unwind.symbolize.symbol_frame import SymbolFrame

CAUSES = {
    "plt": "the address is in a PLT section: the tool knows no PLT stubs, and names the symbol before them or none",
    "padding": "no function of the DWARF and no symbol with a size covers the address, which is behind the end of the"
    " symbol that the tool names",
    "no-boundary": "the symbol that the tool names belongs to another section than the address",
    "inner-label": "the tool names a label without a size inside the symbol with a size that covers the address",
    "same-place": "the tool names another symbol without a size at the address of the one that this project names",
    "symbol-name": "the entry has no DW_AT_linkage_name: the tool takes the name of a symbol of the function around",
    "alias": "the tool names another symbol at the same address as the function's",
    "unqualified": "the entry has no DW_AT_linkage_name: the tool gives its DW_AT_name without the scopes around it",
    "demangler": "the tool's demangler gives the DW_AT_linkage_name up and shows it as it is, or puts parentheses"
    " around the operands of an expression in it",
    "first-file": "the line number program of DWARF 5 has not set the file register, whose first value is file 1; the"
    " tool takes file 0 (the unit's name)",
    "symbols-apart": "no DWARF function covers the address, and the symbol that does is in the debug file only: the"
    " tool reads the symbols of the file itself, which was stripped",
    "symbol-file": "there is no line: the tool names the file of the STT_FILE symbol before the symbol",
    "separator": "the directory ends in a slash, and the tool adds another one",
    "directory-0": "the tool joins the compilation directory and directory 0, which are the same when it is relative",
}


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol of .symtab or .dynsym."""

    address: int
    size: int
    name: str
    section: int


class FileFacts:
    """Symbols and sections of a file and its debug file."""

    def __init__(self, path: Path) -> None:
        debug = find_debug_file(ElfImage.open(path)).path
        self._paths = [str(path), *([debug] if debug else [])]
        self._own = str(path)
        self.sections: list[tuple[int, int, str, int]] = []
        """(begin, end, name, number) of those with code, sorted."""
        with open(path, "rb") as file:
            for number, each in enumerate(ELFFile(file).iter_sections()):
                if each["sh_flags"] & 4 and each["sh_size"]:
                    self.sections.append((each["sh_addr"], each["sh_addr"] + each["sh_size"], each.name, number))
        self.sections.sort()

    @cached_property
    def symbols(self) -> list[Symbol]:
        """Functions and labels, sorted by address."""
        return self._read(self._paths)

    @cached_property
    def own_names(self) -> set[str]:
        """Names of the symbols in the file itself."""
        return {each.name for each in self._read([self._own])}

    @staticmethod
    def _read(paths: list[str]) -> list[Symbol]:
        found = set()
        for path in paths:
            with open(path, "rb") as file:
                elf = ELFFile(file)
                for name in (".symtab", ".dynsym"):
                    table = elf.get_section_by_name(name)
                    if table is None or table["sh_type"] == "SHT_NOBITS":
                        continue
                    for each in table.iter_symbols():
                        if each["st_info"]["type"] in ("STT_FUNC", "STT_NOTYPE", "STT_GNU_IFUNC") and isinstance(
                            each["st_shndx"], int
                        ):
                            name_only = each.name.partition("@")[0]
                            found.add(Symbol(each["st_value"], each["st_size"], name_only, each["st_shndx"]))
        return sorted(found, key=lambda each: (each.address, each.size, each.name))

    @cached_property
    def _addresses(self) -> list[int]:
        return [each.address for each in self.symbols]

    @cached_property
    def by_name(self) -> dict[str, list[Symbol]]:
        """Symbols by their name, and by their demangled one."""
        found: dict[str, list[Symbol]] = {}
        for each in self.symbols:
            for name in {each.name, name_style(demangled(each.name))}:
                found.setdefault(name, []).append(each)
        return found

    def section(self, address: int) -> tuple[int, int, str, int] | None:
        """The section with code that `address` is in."""
        index = bisect_right(self.sections, (address, 1 << 64)) - 1
        return self.sections[index] if index >= 0 and address < self.sections[index][1] else None

    def covering(self, address: int) -> list[Symbol]:
        """Symbols with a size that cover `address`; functions are looked for 1 MiB back at most."""
        index = bisect_right(self._addresses, address)
        found = []
        while index > 0 and address - self._addresses[index - 1] < 1 << 20:
            index -= 1
            if address < self.symbols[index].address + self.symbols[index].size:
                found.append(self.symbols[index])
        return found

    def labels_before(self, address: int) -> list[Symbol]:
        """The symbols at the last address at or before `address` that has any."""
        index = bisect_right(self._addresses, address) - 1
        return [each for each in self.symbols[: index + 1][-32:] if each.address == self._addresses[index]]


def name_style(name: str) -> str:
    """Demanglers differ in the space of `> >` and how they show a clone's suffix."""
    while "> >" in name:
        name = name.replace("> >", ">>")
    return re.sub(r" \[(?:clone )?(\.[^\]]*)\]| \((\.[^)]*)\)", r" [\1\2]", name)


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference at one address: the causes that were shown, or what differs when one was not."""

    causes: frozenset[str]
    unexplained: str | None = None


def difference(
    facts: FileFacts,
    address: int,
    ours: list[SymbolFrame],
    theirs: list[ToolFrame],
    other: list[ToolFrame],
    first_files: set[str | None],
) -> Difference | None:
    """What differs between our frames and a tool's, None for nothing. `other` are the other tool's.

    `first_files` is file 0 of the line number program of each unit that claims the address, where that is of DWARF 5:
    several units have an inline function of which the linker kept one.
    """
    section = facts.section(address)
    causes: set[str] = set()
    if section is not None and section[2].startswith(".plt"):
        # Both tools know nothing of stubs; that ours names one of them is the symbol table's test.
        same = [each.function for each in ours] == [each.function for each in theirs]
        return None if same else Difference(frozenset({"plt"}))
    if not ours or not theirs:
        return _one_sided(facts, address, ours, theirs)
    if len(ours) != len(theirs):
        return Difference(frozenset(), f"depth {len(ours)} for {len(theirs)}")
    for index, (frame, wanted) in enumerate(zip(ours, theirs, strict=True)):
        for what in (
            _name_cause(facts, address, frame, wanted, index == 0, index == len(ours) - 1),
            _place_cause(frame, wanted, other[index] if len(other) == len(ours) else None, first_files),
        ):
            if what is not None:
                if what not in CAUSES:
                    return Difference(frozenset(), what)
                causes.add(what)
    return Difference(frozenset(causes)) if causes else None


def _one_sided(facts: FileFacts, address: int, ours: list[SymbolFrame], theirs: list[ToolFrame]) -> Difference | None:
    if not ours and not theirs:
        return None
    if len(ours) == 1 and not theirs and _is_apart(facts, ours[0]):
        return Difference(frozenset({"symbols-apart"}))
    if ours or len(theirs) != 1 or theirs[0].function is None:
        return Difference(frozenset(), f"{ours} for {theirs}")
    cause = _without_function(facts, address, theirs[0].function)
    return Difference(frozenset({cause})) if cause in CAUSES else Difference(frozenset(), cause)


def _is_apart(facts: FileFacts, frame: SymbolFrame) -> bool:
    """Whether the frame's function is known by the symbols of the debug file alone."""
    named = facts.by_name.get(frame.function or "", [])
    return frame.die is None and bool(named) and not any(each.name in facts.own_names for each in named)


def _without_function(facts: FileFacts, address: int, name: str) -> str:
    """Why a tool names the function `name` where this project names none."""
    section = facts.section(address)
    named = [each for each in facts.by_name.get(name_style(name), []) if each.address <= address]
    if section is not None and named and all(each.section != section[3] for each in named):
        return "no-boundary"
    if named and not facts.covering(address):
        return "padding"
    return f"nothing for {name}"


def _name_cause(
    facts: FileFacts, address: int, frame: SymbolFrame, wanted: ToolFrame, innermost: bool, outermost: bool
) -> str | None:
    """Why the names differ: a key of CAUSES, another text when that is not known, None when they do not."""
    theirs = wanted.function
    raw = frame.linkage_name or _plain_name(frame)
    readable = name_style(frame.function or "")
    if theirs is None:
        if frame.function is None or _is_apart(facts, frame):
            return None if frame.function is None else "symbols-apart"
        return f"name {readable} for none"
    if theirs == raw or name_style(theirs) in (readable, name_style(raw or "")):
        if frame.linkage_name is None and name_style(theirs) != readable:
            same = readable.endswith(f"::{name_style(theirs)}")
            return "unqualified" if same else f"name {readable} for {theirs}"
        return "demangler" if frame.linkage_name == theirs != demangled(theirs) and not raw_names(wanted) else None
    if frame.function is None:
        return _without_function(facts, address, theirs)
    if frame.linkage_name is not None and re.sub("[() ]", "", theirs) == re.sub("[() ]", "", readable):
        return "demangler"
    named = facts.by_name.get(name_style(theirs), [])
    if frame.die is None:
        return _symbol_cause(facts, address, frame, named) or f"name {readable} for {theirs}"
    if any(each.address == frame.function_start for each in named) and frame.linkage_name is not None:
        return "alias"
    # A function may lie in several pieces, each with a symbol of its own.
    if frame.linkage_name is None and not f"::{readable}".endswith(f"::{name_style(_plain_name(frame) or '?')}"):
        return f"name {readable} for {theirs}"
    pieces = [address, *(low for low, _ in frame.die.ranges())] if outermost or innermost else []
    covering = [each for each in named if any(each.address <= low < each.address + each.size for low in pieces)]
    if covering and not frame.die.inherited(C.DW_AT_linkage_name):
        # A symbol of another function would be a wrong answer of one of us; the innermost of inlined calls gets that
        # of the function around it from addr2line.
        same = (raw or "?").partition("<")[0] in demangled(covering[0].name)
        if same if outermost else innermost and raw_names(wanted):
            return "symbol-name"
    if outermost and any(each.name.startswith(f"{frame.linkage_name}.") for each in covering):
        return "symbol-name"
    return f"name {readable} for {theirs}"


def raw_names(frame: ToolFrame) -> bool:
    """Whether names are shown as symbols have them: addr2line, which tells no column, was asked for that."""
    return frame.column is None


def _plain_name(frame: SymbolFrame) -> str | None:
    name = frame.die.inherited(C.DW_AT_name) if frame.die is not None else frame.function
    return name if isinstance(name, str) else None


def _symbol_cause(facts: FileFacts, address: int, frame: SymbolFrame, named: list[Symbol]) -> str | None:
    """Why a tool chose another symbol where the DWARF knows no function."""
    section = facts.section(address)
    if section is not None and named and all(each.section != section[3] for each in named):
        return "no-boundary"
    if any(each.address == frame.function_start for each in named):
        return "same-place" if not facts.covering(address) else "alias"
    covering = {each.name for each in facts.covering(address)}
    if frame.function in covering and any(not each.size and each in facts.labels_before(address) for each in named):
        return "inner-label"
    return None


def _place_cause(
    frame: SymbolFrame, wanted: ToolFrame, other: ToolFrame | None, first_files: set[str | None]
) -> str | None:
    """Why file, line or column differ: as `_name_cause`."""
    if frame.line != wanted.line or (wanted.column is not None and frame.column != wanted.column):
        return f"line {frame.line}:{frame.column} for {wanted.line}:{wanted.column}"
    if frame.file == wanted.file:
        return None
    if frame.file is None and frame.line is None:
        return "symbol-file"
    if wanted.file is not None and frame.file is not None:
        if wanted.file.replace("//", "/") == frame.file:
            return "separator"
        if re.sub(r"^(\./[^/]+)/\1/", r"\1/", wanted.file) == frame.file:
            return "directory-0"
        agreed = other is not None and (other.file, other.line) == (frame.file, frame.line)
        if agreed and wanted.file in first_files:
            return "first-file"
    return f"file {frame.file} for {wanted.file}"
