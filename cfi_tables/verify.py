"""A table against readelf's reading of the same file: at every row boundary, and one byte either side.

Owns the comparison. Expected rules come from `readelf_rows`, actual ones from the lookup that the walk uses; the
differences go to `ptap tables verify`. Rules are compared in readelf's words, and what these cannot tell apart is
counted: a register that is undefined or not mentioned (both "u"), what an expression computes ("exp"), and
whether a return address is signed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cfi_tables import layout
from cfi_tables.architecture import Architecture, architecture_of
from cfi_tables.cfi_sources import frame_sections
from cfi_tables.elf_image import ET_REL, ElfImage
from cfi_tables.hot_loop import FlatArray, compiled, hot_loop, plain_view
from cfi_tables.lookup import find_rule, register_list
from cfi_tables.orc import has_orc
from cfi_tables.readelf_rows import ReadelfFde, readelf_frames
from cfi_tables.scalars import read_i32, read_u8
from cfi_tables.section_rows import FrameSection
from cfi_tables.table import CompactTable, TableError

_COMPILED_ADDRESSES = 100_000
GAP = "no information"
END = "outermost frame"


@dataclass(frozen=True, slots=True)
class RuleWords:
    """A rule in readelf's words; registers with their ABI default are left out."""

    cfa: str
    registers: tuple[tuple[str, str], ...]
    signal_frame: bool

    def __str__(self) -> str:
        words = [f"CFA={self.cfa}", *(f"{name}={rule}" for name, rule in self.registers)]
        return " ".join([*words, "signal frame"] if self.signal_frame else words)


@dataclass(frozen=True, slots=True)
class Difference:
    """One address at which the two readings differ."""

    address: int
    table: str
    readelf: str


@dataclass(slots=True)
class Verification:
    """What was compared and how it came out."""

    addresses: int = 0
    fdes: int = 0
    differences: list[Difference] = field(default_factory=list)
    not_told_apart: Counter[str] = field(default_factory=Counter)
    """Addresses at which readelf's words leave something open, by what that is."""


@hot_loop
def look_up(arena: FlatArray, pcs: FlatArray, offsets: FlatArray) -> None:
    """`find_rule` in the one table of `arena` for each of `pcs` (int64), into `offsets`."""
    for index in range(len(pcs)):
        offsets[index] = find_rule(arena, 0, pcs[index])


def verify_table(table: CompactTable, image: ElfImage, debug: ElfImage | None = None) -> Verification:
    """Compare `table`, which was built from `image` and `debug`, with readelf's reading of them.

    Raises TableError for a relocatable object (readelf gives all of its sections the address 0) and for a file with
    ORC, ReadelfError.
    """
    if image.file_type == ET_REL:
        raise TableError(
            f"{image.path}: readelf places every section of a relocatable object at 0, so addresses cannot be "
            "compared; link it and verify that"
        )
    if has_orc(image):
        raise TableError(
            f"{image.path}: its unwind data is the kernel's ORC, which readelf does not read; compare with "
            "`objtool --dump=orc` of the kernel's own build"
        )
    architecture = architecture_of(table.machine)
    assert architecture is not None  # the table was checked when it was loaded
    result = Verification()
    sources = [
        _Source(section, readelf_frames(source.path).get(section.name, []))
        for section, source in frame_sections(image, debug)
    ]
    result.fdes = sum(len(source.fdes) for source in sources)
    boundaries = {table.text_range[0], table.text_range[1]}
    boundaries.update(address for address, _ in table.rows())
    for source in sources:
        boundaries.update(source.boundaries())
    pcs = sorted({pc for boundary in boundaries for pc in (boundary - 1, boundary, boundary + 1) if pc >= 0})
    described: dict[int, str | RuleWords] = {-1: GAP}
    view = plain_view(table.data)
    for pc, offset in zip(pcs, _offsets(table, pcs).tolist(), strict=True):
        if offset not in described:
            described[offset] = _table_words(view, offset, architecture)
        actual = described[offset]
        expected: tuple[ReadelfFde, int] | None = None
        for source in sources:
            if (expected := source.row_at(pc)) is not None:
                break
        words = GAP if expected is None else _readelf_words(*expected, architecture)
        result.addresses += 1
        if not _equal(actual, words, architecture, result):
            result.differences.append(Difference(pc, str(actual), str(words)))
    return result


def _offsets(table: CompactTable, pcs: list[int]) -> NDArray[np.int64]:
    found = np.empty(len(pcs), dtype=np.int64)
    wanted = np.array(pcs, dtype=np.uint64).view(np.int64)
    if len(pcs) >= _COMPILED_ADDRESSES:
        compiled(look_up)(table.data, wanted, found)
    else:
        look_up(plain_view(table.data), plain_view(wanted), plain_view(found))
    return found


class _Source:
    """readelf's FDEs of one section; those of code that is not in the file are left out, as in a table."""

    def __init__(self, section: FrameSection, fdes: list[ReadelfFde]) -> None:
        self.fdes = [
            fde
            for fde in fdes
            if fde.start < fde.end and any(low <= fde.start and fde.end <= high for low, high in section.ranges)
        ]
        self.fdes.sort(key=lambda fde: (fde.start, -fde.end))
        self._starts = np.array([fde.start for fde in self.fdes], dtype=np.uint64)
        # Behind which end all FDEs up to index i lie: how far back an address may have to look.
        self._reach = np.maximum.accumulate(np.array([fde.end for fde in self.fdes], dtype=np.uint64))

    def boundaries(self) -> Iterator[int]:
        for fde in self.fdes:
            yield from (address for address, _, _ in fde.rows)
            yield from (fde.start, fde.end)

    def row_at(self, pc: int) -> tuple[ReadelfFde, int] | None:
        """The FDE in force at `pc` and the index of its row: of several that cover it the one that starts last."""
        index = int(np.searchsorted(self._starts, np.uint64(pc), side="right")) - 1
        while index >= 0 and int(self._reach[index]) > pc:
            fde = self.fdes[index]
            if pc < fde.end:
                row = len(fde.rows) - 1
                while row > 0 and fde.rows[row][0] > pc:
                    row -= 1
                return (fde, row) if fde.rows else None
            index -= 1
        return None


_PREFIX = {layout.REGISTER_KIND_AT_CFA: "c", layout.REGISTER_KIND_CFA_PLUS: "v"}
_WORD = {
    layout.REGISTER_KIND_UNDEFINED: "u",
    layout.REGISTER_KIND_SAME: "s",
    layout.REGISTER_KIND_EXPRESSION: "exp",
    layout.REGISTER_KIND_VAL_EXPRESSION: "vexp",
}


def _table_words(view: FlatArray, offset: int, architecture: Architecture) -> str | RuleWords:
    """The rule record at `offset` in readelf's words."""
    kind = read_u8(view, offset + layout.RULE_CFA_KIND)
    if kind == layout.CFA_KIND_END:
        return END
    if kind == layout.CFA_KIND_OVERFLOW:
        return "rule does not fit the table"
    cfa = "exp"
    if kind == layout.CFA_KIND_REGISTER_OFFSET:
        name = architecture.register_name(read_u8(view, offset + layout.RULE_CFA_REGISTER))
        cfa = f"{name}{read_i32(view, offset + layout.RULE_CFA_VALUE):+d}"
    registers = []
    entries = register_list(view, 0, offset)
    for index in range(read_u8(view, entries)):
        entry = read_i32(view, entries + 4 + 4 * index)
        how, value = entry >> 6 & 7, entry >> 9
        if how in _PREFIX:
            word = f"{_PREFIX[how]}{value:+d}"
        elif how == layout.REGISTER_KIND_IN_REGISTER:
            word = architecture.register_name(value)
        else:
            word = _WORD[how]
        registers.append((entry & 63, word))
    flags = read_u8(view, entries + 1)
    return RuleWords(cfa, _without_defaults(registers, architecture), bool(flags & layout.RULE_FLAG_SIGNAL_FRAME))


def _readelf_words(fde: ReadelfFde, row: int, architecture: Architecture) -> RuleWords:
    _, cfa, rules = fde.rows[row]
    numbers = {name: number for number, name in enumerate(architecture.register_names)}
    numbers["ra"] = fde.return_column
    registers = [(numbers[name], rule) for name, rule in rules.items() if name in numbers]
    other = fde.return_column
    if 0 <= other < len(architecture.register_names) and other != architecture.return_column:
        # The code returns through another register, whose column readelf then calls "ra".
        rule = rules.get("ra", "u")
        registers.append((architecture.return_column, architecture.register_name(other) if rule in "us" else rule))
    return RuleWords(cfa, _without_defaults(sorted(registers), architecture), "S" in fde.augmentation)


def _without_defaults(registers: list[tuple[int, str]], architecture: Architecture) -> tuple[tuple[str, str], ...]:
    """By name, without "u" and without "s" of the registers that calls preserve."""
    return tuple(
        (architecture.register_name(number), rule)
        for number, rule in registers
        if rule != "u" and not (rule == "s" and number in architecture.callee_saved)
    )


def _equal(
    actual: str | RuleWords, expected: str | RuleWords, architecture: Architecture, result: Verification
) -> bool:
    """Whether the two say the same, as far as readelf's words go; what they leave open is counted."""
    if isinstance(expected, str) or actual == GAP:
        return actual == expected
    return_address = architecture.register_name(architecture.return_column)
    has_return = return_address in dict(expected.registers)
    if actual == END:
        if architecture.return_column in architecture.callee_saved:
            result.not_told_apart["the outermost frame, or a return address still in its register"] += 1
        return not has_return
    if not isinstance(actual, RuleWords):
        return False
    if not has_return and architecture.return_column not in architecture.callee_saved:
        return False
    if "exp" in expected.cfa or any("exp" in rule for _, rule in expected.registers):
        result.not_told_apart["what an expression computes"] += 1
    return actual == expected
