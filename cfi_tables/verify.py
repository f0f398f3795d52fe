"""A table against other readings of the same file: at every row boundary, and one byte either side.

Owns the comparison. Expected rules come from `readelf_rows` for call frame sections and, for the kernel's ORC, from
objtool's dump (`objtool_rows`); actual ones from the lookup that the walk uses. The differences go to `ptap tables
verify`. Rules are compared in readelf's words, and what these cannot tell apart is counted: a register that is
undefined or not mentioned (both "u"), what an expression computes ("exp"), and whether a return address is signed.

Where there is ORC, what is expected is put together here again, by what `cfi_sources` says: ORC's CFA, return address,
rbp and kind, and the other callee-saved registers as readelf has them. Without a dump ORC is taken as `orc` reads it,
which is no check of that reading; what remains is DWARF's part, and at how many addresses DWARF, which was made by
the compiler, and ORC, which was made from the machine code, give the same CFA. Of retpoline thunks neither tells; what
is expected there follows from where each begins, calls and ends.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cfi_tables.architecture import Architecture, architecture_of
from cfi_tables.cfi_sources import code_ranges, frame_sections
from cfi_tables.elf_image import ET_REL, ElfImage
from cfi_tables.hot_loop import FlatArray, compiled, compiled_pays, hot_loop, plain_view
from cfi_tables.linked_object import link_object
from cfi_tables.lookup import find_rule
from cfi_tables.objtool_rows import OrcListing, read_objtool_dump
from cfi_tables.orc import has_orc, orc_rows
from cfi_tables.readelf_rows import ReadelfSection, readelf_frames
from cfi_tables.retpoline_thunks import retpoline_thunks
from cfi_tables.rule_words import (
    END,
    GAP,
    RuleWords,
    as_readelf_has_it,
    readelf_words,
    rule_words,
    table_words,
    without_defaults,
)
from cfi_tables.table import CompactTable

_INTERPRETED_RATE = 45_000
"""Addresses that the plain form looks up in a second, measured."""
_MARKS = 1 << 24
"""Below this many possible values, one mark each is the quickest way to find those that occur."""

_Number = TypeVar("_Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Difference:
    """One address at which the two readings differ."""

    address: int
    table: str
    expected: str


@dataclass(slots=True)
class Verification:
    """What was compared and how it came out."""

    addresses: int = 0
    fdes: int = 0
    differences: list[Difference] = field(default_factory=list)
    not_told_apart: Counter[str] = field(default_factory=Counter)
    """Addresses at which readelf's words leave something open, by what that is."""
    orc_checked: bool | None = None
    """Whether ORC was compared with objtool's reading; None where there is no ORC."""
    sources: Counter[str] = field(default_factory=Counter)
    """Where there is ORC: at how many addresses which source speaks, and whether the two agree."""


@hot_loop
def look_up(arena: FlatArray, pcs: FlatArray, offsets: FlatArray) -> None:
    """`find_rule` in the one table of `arena` for each of `pcs` (int64), into `offsets`."""
    for index in range(len(pcs)):
        offsets[index] = find_rule(arena, 0, pcs[index])


def verify_table(
    table: CompactTable, image: ElfImage, debug: ElfImage | None = None, orc_dump: str | Path | None = None
) -> Verification:
    """Compare `table`, which was built from `image` and `debug`, with other readings of them.

    `orc_dump` is a file with what objtool prints of the image's ORC. Raises ReadelfError, ObjtoolError, OSError.
    """
    architecture = architecture_of(table.machine)
    assert architecture is not None  # the table was checked when it was loaded
    result = Verification()
    listings = list(_listings(image, debug))
    result.fdes = sum(len(listing.starts) for listing in listings)
    orc = _orc(image, orc_dump) if has_orc(image) else None
    result.orc_checked = None if orc is None else orc_dump is not None
    pcs = _addresses(table, listings, orc)
    dwarf, rules = _dwarf_at(pcs, listings, architecture)
    orc_at = np.full(len(pcs), -1, dtype=np.int64) if orc is None else _orc_at(pcs, orc, image)
    if orc is not None:
        _expect_thunks(pcs, orc_at, orc, image)
    result.addresses = len(pcs)

    # Few distinct triples stand at many addresses: each is compared once.
    distinct, inverse, counts = _distinct(table_offsets(table, pcs), dwarf, orc_at)
    view = plain_view(table.data)
    expected: list[str | RuleWords] = []
    wrong = np.zeros(len(distinct), dtype=np.bool_)
    for index, ((offset, rule, entry), count) in enumerate(zip(distinct.tolist(), counts.tolist(), strict=True)):
        actual = table_words(view, offset, architecture)
        from_dwarf: str | RuleWords = GAP if rule < 0 else rules[rule]
        from_orc: str | RuleWords = GAP if orc is None or entry < 0 else orc.words[entry]
        if from_orc == GAP:
            expected.append(from_dwarf)
            equal = _equal(actual, from_dwarf, architecture, result.not_told_apart, count)
        else:
            expected.append(_merged(from_orc, from_dwarf, architecture))
            equal = _equal_merged(actual, expected[-1], from_dwarf, architecture)
        if orc is not None:
            result.sources[_agreement(from_orc, from_dwarf)] += count
        wrong[index] = not equal
    for place in np.flatnonzero(wrong[inverse]).tolist():
        number = int(inverse[place])
        told = table_words(view, int(distinct[number, 0]), architecture)
        result.differences.append(Difference(int(pcs[place]), str(told), str(expected[number])))
    return result


def table_offsets(table: CompactTable, pcs: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where the rule in force at each of `pcs` lies in the table, -1 where there is none: what the walk looks up."""
    found = np.empty(len(pcs), dtype=np.int64)
    wanted = pcs.view(np.int64)
    if compiled_pays(look_up, len(pcs) / _INTERPRETED_RATE):
        compiled(look_up)(table.data, wanted, found)
    else:
        look_up(plain_view(table.data), plain_view(wanted), plain_view(found))
    return found


def _distinct(*columns: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(distinct rows of the columns, the number of each row among them, how often each occurs)."""
    number = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        dense = _dense(column + 1)  # from -1 on
        number = _dense(number * (int(dense.max(initial=0)) + 1) + dense)
    counts = np.bincount(number)
    some = np.empty(len(counts), dtype=np.int64)
    some[number] = np.arange(len(number))
    return np.stack([column[some] for column in columns], axis=1), number, counts


def _dense(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers from 0 on for the distinct values (none negative), in their order."""
    if int(values.max(initial=0)) >= _MARKS:
        return np.searchsorted(_sorted_distinct(values), values).astype(np.int64)
    marks = np.zeros(int(values.max(initial=0)) + 1, dtype=np.int64)
    marks[values] = 1
    return (np.cumsum(marks) - 1)[values]


def _sorted_distinct(values: NDArray[_Number]) -> NDArray[_Number]:
    """As np.unique, which is many times slower for a few million numbers."""
    values = np.sort(values)
    return values[np.append(True, values[1:] != values[:-1])] if len(values) else values


def _addresses(table: CompactTable, listings: list[ReadelfSection], orc: OrcListing | None) -> NDArray[np.uint64]:
    """Every boundary that one of the readings has, and one byte either side."""
    rows, _ = table.row_columns()
    parts = [np.array(table.text_range, dtype=np.uint64), rows.astype(np.uint64) + np.uint64(table.text_range[0])]
    parts += [listing.boundaries() for listing in listings]
    if orc is not None:
        parts.append(orc.addresses)
    bounds = _sorted_distinct(np.concatenate(parts))
    return _sorted_distinct(np.concatenate([bounds[bounds > 0] - np.uint64(1), bounds, bounds + np.uint64(1)]))


# --- readelf's reading


def _listings(image: ElfImage, debug: ElfImage | None) -> Iterator[ReadelfSection]:
    """readelf's reading of each call frame section, the one that wins first."""
    seen: dict[tuple[int, str], ReadelfSection | None] = {}
    frames: dict[int, dict[str, ReadelfSection]] = {}
    for section, source in frame_sections(image, debug):
        if id(source) not in frames:
            with _plain_file(source) as path:
                frames[id(source)] = readelf_frames(path)
        key = id(source), section.name
        if key not in seen:  # ld has made one of several
            seen[key] = frames[id(source)].get(section.name)
            found = seen[key]
            if found is not None:
                yield found.inside(section.ranges)


@contextmanager
def _plain_file(image: ElfImage) -> Iterator[Path]:
    """A file that readelf can read: the image's own, what it wraps, or what ld makes of an object."""
    path = Path(image.path)
    with open(path, "rb") as file:
        wrapped = file.read(4) != b"\x7fELF"
    if not wrapped and image.file_type != ET_REL:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="ptap-") as folder:
        if wrapped:
            path = Path(folder) / "image"
            image.data.tofile(path)
        if image.file_type == ET_REL:
            linked = Path(folder) / "linked"
            link_object(path, image, linked)
            path = linked
        yield path


def _dwarf_at(
    pcs: NDArray[np.uint64], listings: list[ReadelfSection], architecture: Architecture
) -> tuple[NDArray[np.int64], list[RuleWords]]:
    """(index into the rules or -1 at each of `pcs`, the rules): of the first section that covers a pc."""
    rules: list[RuleWords] = []
    found = np.full(len(pcs), -1, dtype=np.int64)
    for listing in listings:
        missing = np.flatnonzero(found < 0)
        own = listing.rules_at(pcs[missing])
        found[missing[own >= 0]] = own[own >= 0] + len(rules)
        rules += [readelf_words(rule, architecture) for rule in listing.words]
    return found, rules


def _equal(
    actual: str | RuleWords,
    expected: str | RuleWords,
    architecture: Architecture,
    open_questions: Counter[str],
    count: int,
) -> bool:
    """Whether the two say the same, as far as readelf's words go; what they leave open is counted."""
    if isinstance(expected, str) or actual == GAP:
        return actual == expected
    expected = as_readelf_has_it(expected, architecture)
    return_address = architecture.register_name(architecture.return_column)
    has_return = return_address in dict(expected.registers)
    if actual == END:
        if architecture.return_column in architecture.callee_saved:
            open_questions["the outermost frame, or a return address still in its register"] += count
        return not has_return
    if not isinstance(actual, RuleWords):
        return False
    if not has_return and architecture.return_column not in architecture.callee_saved:
        return False
    if "exp" in expected.cfa or any("exp" in rule for _, rule in expected.registers):
        open_questions["what an expression computes"] += count
    return as_readelf_has_it(actual, architecture) == expected


# --- ORC


def _orc(image: ElfImage, dump: str | Path | None) -> OrcListing:
    """objtool's reading, or without its dump the one that tables are built from."""
    if dump is not None:
        return read_objtool_dump(dump, image)
    rows, rules = orc_rows(image, code_ranges(image))
    architecture = architecture_of(image.machine)
    assert architecture is not None  # tables are built for it
    words = [rule_words(rule, architecture) for rule in rules]
    return OrcListing(rows.addresses.view(np.uint64), rows.rules, words)


def _orc_at(pcs: NDArray[np.uint64], orc: OrcListing, image: ElfImage) -> NDArray[np.int64]:
    """The index in `orc.words` at each of `pcs`, -1 outside of code: there the last entry is not meant to hold."""
    inside = np.zeros(len(pcs), dtype=np.bool_)
    for low, high in code_ranges(image):
        inside |= (pcs >= np.uint64(low)) & (pcs < np.uint64(high))
    return np.where(inside, orc.words_at(pcs), -1)


def _expect_thunks(pcs: NDArray[np.uint64], orc_at: NDArray[np.int64], orc: OrcListing, image: ElfImage) -> None:
    """Have `orc_at` lead to words of their own in retpoline thunks: the return address is on top, or behind a word."""
    if image.file_type == ET_REL:
        return
    own = len(orc.words)
    orc.words.extend(RuleWords(cfa, (("ra", "c-8"),), False) for cfa in ("rsp+8", "rsp+16"))
    for begin, called, end in retpoline_thunks(image):
        orc_at[(pcs >= np.uint64(begin)) & (pcs < np.uint64(called))] = own
        orc_at[(pcs >= np.uint64(called)) & (pcs < np.uint64(end))] = own + 1


def _from_call(words: RuleWords) -> bool:
    """Whether the frame was called, rather than interrupted."""
    return ("ra", "c-8") in words.registers


def _merged(orc: str | RuleWords, dwarf: str | RuleWords, architecture: Architecture) -> str | RuleWords:
    """What the two mean together: `cfi_sources` tells the rule."""
    if isinstance(orc, str) or isinstance(dwarf, str) or not _from_call(orc):
        return orc
    told = dict(dwarf.registers)
    if told.get("ra", "u") == "u":  # DWARF has the outermost frame, and says nothing of registers
        return orc
    known = dict(orc.registers)
    for name in architecture.register_names:
        if name in ("rbp", "rsp", "ra"):
            continue
        word = told.get(name, "u")
        known.pop(name, None)
        if not word.startswith(("exp", "vexp")):
            known[name] = word
        elif name in {architecture.register_name(number) for number in architecture.callee_saved}:
            known[name] = "u"
    ordered = tuple((name, known[name]) for name in architecture.register_names if name in known)
    return replace(orc, registers=ordered)


def _equal_merged(
    actual: str | RuleWords, expected: str | RuleWords, dwarf: str | RuleWords, architecture: Architecture
) -> bool:
    """Whether a rule made with ORC says what is expected; where DWARF says nothing, to the letter."""
    if isinstance(actual, str) or isinstance(expected, str) or isinstance(dwarf, str):
        return actual == expected
    return without_defaults(actual, architecture) == without_defaults(expected, architecture)


def _agreement(orc: str | RuleWords, dwarf: str | RuleWords) -> str:
    """How ORC and DWARF stand to each other at one address."""
    if orc == GAP:
        return "neither ORC nor DWARF" if dwarf == GAP else "DWARF alone"
    if isinstance(dwarf, str):
        return "ORC alone"
    if isinstance(orc, str) or not _from_call(orc):
        return "ORC and DWARF, in a frame that ORC knows as an entry's or the last"
    if orc.cfa != dwarf.cfa:
        return "ORC and DWARF with another CFA"
    saved = [dict(words.registers).get("rbp", "s").replace("u", "s") for words in (orc, dwarf)]
    return "ORC and DWARF with the same CFA" + ("" if saved[0] == saved[1] else ", but not rbp")
