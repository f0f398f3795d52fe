"""Entries written by the tests: every form, class of range, and reference between units, that compilers leave out."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cfi_writer.elf_writer import ALLOC, EXECUTE, ElfSection, write_elf
from cfi_writer.leb128 import uleb
from dwarf_writer.entry_writer import DebugWriter, EntrySpec, UnitSpec, initial_length
from dwarf_writer.line_writer import LineProgram

from unwind.dwarf import constants as C
from unwind.symbolize.index_build import build_index
from unwind.symbolize.index_lookup import IndexLookup
from unwind.symbolize.module_symbols import ModuleSymbols

TEXT = 0x401000
STEP = 0x40
X86_64, I386 = 62, 3
SHAPES = [(version, offset, address) for version in (2, 3, 4, 5) for offset in (4, 8) for address in (4, 8)]
_UNIT = C.DW_TAG_compile_unit
_FUNCTION = C.DW_TAG_subprogram
_USER = 0x2001
_ALL = {value: name for name, value in vars(C).items() if name.startswith("DW_FORM_")}
FIRST_OF_5 = C.DW_FORM_strx
Attributes = list[tuple[int, int, Any]]

SKIPPED: dict[int, Any] = {
    C.DW_FORM_block: b"\1\2\3", C.DW_FORM_block1: b"abc", C.DW_FORM_block2: b"", C.DW_FORM_block4: b"x" * 300,
    C.DW_FORM_data1: 0xFF, C.DW_FORM_data2: 0x8000, C.DW_FORM_data4: 1, C.DW_FORM_data8: 1 << 63,
    C.DW_FORM_data16: 1 << 127, C.DW_FORM_udata: 1 << 60, C.DW_FORM_sdata: -(1 << 40), C.DW_FORM_flag: 1,
    C.DW_FORM_flag_present: 1, C.DW_FORM_implicit_const: -5, C.DW_FORM_exprloc: b"\x91\0", C.DW_FORM_sec_offset: 0,
    C.DW_FORM_string: "text", C.DW_FORM_strp: "text", C.DW_FORM_line_strp: "text", C.DW_FORM_strx: "text",
    C.DW_FORM_strx1: "text", C.DW_FORM_strx2: "text", C.DW_FORM_strx3: "text", C.DW_FORM_strx4: "text",
    C.DW_FORM_addr: TEXT, C.DW_FORM_addrx: TEXT, C.DW_FORM_addrx1: TEXT, C.DW_FORM_addrx2: TEXT,
    C.DW_FORM_addrx3: TEXT, C.DW_FORM_addrx4: TEXT, C.DW_FORM_ref1: "root", C.DW_FORM_ref2: "root",
    C.DW_FORM_ref4: "root", C.DW_FORM_ref8: "root", C.DW_FORM_ref_udata: "root", C.DW_FORM_ref_addr: "root",
    C.DW_FORM_ref_sig8: 0x1234567890, C.DW_FORM_ref_sup4: 12, C.DW_FORM_ref_sup8: 12, C.DW_FORM_strp_sup: 12,
    C.DW_FORM_loclistx: 0, C.DW_FORM_rnglistx: 0, C.DW_FORM_GNU_ref_alt: 12, C.DW_FORM_GNU_strp_alt: 12,
    C.DW_FORM_GNU_addr_index: TEXT, C.DW_FORM_GNU_str_index: "text",
}  # fmt: skip


def sample(form: int, inner: int) -> Any:
    """A value of `form`; of DW_FORM_indirect, one of `inner`."""
    return (inner, SKIPPED[inner]) if form == C.DW_FORM_indirect else SKIPPED[form]


def has_form(form: int, version: int) -> bool:
    """Whether readers of `version` may meet a form; those of GNU stand in for DWARF 5's in version 4."""
    if form in (C.DW_FORM_GNU_addr_index, C.DW_FORM_GNU_str_index):
        return version == 4
    return version >= 5 or form not in range(FIRST_OF_5, 0x2D) or form == C.DW_FORM_ref_sig8


def write(path: Path, writer: DebugWriter, units: list[UnitSpec]) -> Path:
    """The file: 64 KiB of code and the writer's sections."""
    writer.write_units(units)
    sections = [ElfSection(".text", b"\x90" * 0x10000, TEXT, ALLOC | EXECUTE)]
    sections += [ElfSection(name, data) for name, data in writer.finished().items()]
    is_64bit = writer.address_size == 8
    path.write_bytes(write_elf(X86_64 if is_64bit else I386, sections, is_64bit))
    return path


def root(writer: DebugWriter, children: list[EntrySpec], attributes: Attributes | tuple[()] = ()) -> EntrySpec:
    """A unit's entry that has the bases of the indexed forms."""
    bases: Attributes = []
    if writer.version >= 5:
        writer.string_index("main.c"), writer.address_index(0)  # a base of nothing is an error to llvm
        bases = [
            (C.DW_AT_str_offsets_base, C.DW_FORM_sec_offset, writer.table_header),
            (C.DW_AT_addr_base, C.DW_FORM_sec_offset, writer.table_header),
        ]
    name: Attributes = [(C.DW_AT_name, C.DW_FORM_string, "main.c"), (C.DW_AT_comp_dir, C.DW_FORM_string, "/src")]
    covered: Attributes = [(C.DW_AT_low_pc, C.DW_FORM_addr, TEXT), (C.DW_AT_high_pc, C.DW_FORM_addr, TEXT + 0x10000)]
    return EntrySpec(_UNIT, [*bases, *name, *covered, *attributes], children, "root")


Told = list[tuple[str | None, int | None, bool]]


def told(path: Path, addresses: list[int]) -> list[Told]:
    """(function, line, inlined) of the frames at each address, the same by single reads and by indices."""
    symbols = ModuleSymbols.open(path)
    single = [[(each.function, each.line, each.inlined) for each in symbols.frames_at(a)] for a in addresses]
    assert symbols.problems == []
    for plain in (True, False):
        made = ModuleSymbols.open(path)
        frames = IndexLookup(build_index(made, plain=plain)).frames(np.array(addresses, dtype=np.uint64))
        assert made.problems == []
        bounds = frames.offsets.tolist()
        rows = [
            (frames.name_table[name] or None, line or None, inlined)
            for name, line, inlined in zip(
                frames.names.tolist(), frames.lines.tolist(), frames.inlined.tolist(), strict=True
            )
        ]
        assert [rows[low:high] for low, high in itertools.pairwise(bounds)] == single
    return single


def llvm_names(path: Path, addresses: list[int]) -> list[str]:
    """The innermost function at each address, as llvm-symbolizer tells it."""
    tool = shutil.which("llvm-symbolizer-14") or "llvm-symbolizer"
    text = "".join(f"{address:#x}\n" for address in addresses)
    command = [tool, "--inlines", "--no-demangle", "-e", str(path)]
    answer = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return [block.splitlines()[0] for block in answer.strip().split("\n\n")]


@pytest.mark.parametrize(("version", "offset_size", "address_size"), SHAPES)
def test_every_form_is_stepped_over(version: int, offset_size: int, address_size: int, tmp_path: Path) -> None:
    """A function behind an attribute of each form, at its entry and at that of a variable in front of it."""
    writer = DebugWriter(offset_size, address_size, version)
    forms = [(form, 0) for form in sorted(SKIPPED)] + [
        (C.DW_FORM_indirect, form) for form in sorted(SKIPPED) if form != C.DW_FORM_implicit_const
    ]
    forms = [(form, inner) for form, inner in forms if has_form(inner or form, version)]
    assert {form for form, _ in forms} | {C.DW_FORM_GNU_addr_index, C.DW_FORM_GNU_str_index} == set(_ALL) or version < 5
    children = []
    for index, (form, inner) in enumerate(forms):
        low = TEXT + index * STEP
        extra = (_USER, form, sample(form, inner))
        children.append(EntrySpec(0x34, [extra, (C.DW_AT_name, C.DW_FORM_string, "variable")]))
        where: Attributes = [(C.DW_AT_low_pc, C.DW_FORM_addr, low), (C.DW_AT_high_pc, C.DW_FORM_addr, low + STEP)]
        children.append(EntrySpec(_FUNCTION, [extra, (C.DW_AT_name, C.DW_FORM_string, f"f{index}"), extra, *where]))
    path = write(tmp_path / "program", writer, [UnitSpec(root(writer, children), version, offset_size, address_size)])
    addresses = [TEXT + index * STEP + 1 for index in range(len(forms))]
    assert told(path, addresses) == [[(f"f{index}", None, False)] for index in range(len(forms))]


NAMES = (
    C.DW_FORM_string, C.DW_FORM_strp, C.DW_FORM_line_strp, C.DW_FORM_strx, C.DW_FORM_strx1, C.DW_FORM_strx2,
    C.DW_FORM_strx3, C.DW_FORM_strx4, C.DW_FORM_GNU_str_index,
)  # fmt: skip
LOWS = (
    C.DW_FORM_addr, C.DW_FORM_addrx, C.DW_FORM_addrx1, C.DW_FORM_addrx2, C.DW_FORM_addrx3, C.DW_FORM_addrx4,
    C.DW_FORM_GNU_addr_index,
)  # fmt: skip
LENGTHS = (
    C.DW_FORM_data1, C.DW_FORM_data2, C.DW_FORM_data4, C.DW_FORM_data8, C.DW_FORM_udata, C.DW_FORM_sdata,
    C.DW_FORM_implicit_const,
)  # fmt: skip
ORIGINS = (
    C.DW_FORM_ref2, C.DW_FORM_ref4, C.DW_FORM_ref8, C.DW_FORM_ref_udata, C.DW_FORM_ref_addr,
)  # fmt: skip


@pytest.mark.parametrize("indirect", [False, True], ids=["", "indirect"])
@pytest.mark.parametrize(("version", "offset_size", "address_size"), SHAPES)
def test_every_form_of_what_is_read(
    version: int, offset_size: int, address_size: int, indirect: bool, tmp_path: Path
) -> None:
    """Names, addresses, lengths, origins and call lines in each form that they can have."""
    writer = DebugWriter(offset_size, address_size, version)

    def value(attribute: int, form: int, content: Any) -> tuple[int, int, Any]:
        if indirect and form != C.DW_FORM_implicit_const:
            return attribute, C.DW_FORM_indirect, (form, content)
        return attribute, form, content

    forms = [(C.DW_AT_name, form) for form in NAMES]
    forms += [(C.DW_AT_low_pc, form) for form in LOWS]
    forms += [(C.DW_AT_high_pc, form) for form in (*LENGTHS, *LOWS) if version >= 4 or form in LOWS]
    forms += [(C.DW_AT_call_line, form) for form in LENGTHS]
    forms += [(C.DW_AT_abstract_origin, form) for form in ORIGINS]
    forms = [(attribute, form) for attribute, form in forms if has_form(form, version)]
    inner: Attributes = [(C.DW_AT_name, C.DW_FORM_string, "inner"), (C.DW_AT_inline, C.DW_FORM_data1, 1)]
    children, wanted = [EntrySpec(_FUNCTION, inner, label="inner")], []
    for index, (attribute, form) in enumerate(forms):
        low = TEXT + index * STEP
        chosen: dict[int, tuple[int, Any]] = {
            C.DW_AT_name: (C.DW_FORM_string, f"f{index}"),
            C.DW_AT_low_pc: (C.DW_FORM_addr, low),
            C.DW_AT_high_pc: (C.DW_FORM_addr, low + STEP),
            C.DW_AT_call_line: (C.DW_FORM_data1, 7),
            C.DW_AT_abstract_origin: (C.DW_FORM_ref4, "inner"),
        }
        content = chosen[attribute][1]
        if attribute == C.DW_AT_high_pc and form in LENGTHS:
            content = STEP
        chosen[attribute] = (form, content)
        outer = [value(each, *chosen[each]) for each in (C.DW_AT_name, C.DW_AT_low_pc, C.DW_AT_high_pc)]
        part: Attributes = [(C.DW_AT_low_pc, C.DW_FORM_addr, low + 8), (C.DW_AT_high_pc, C.DW_FORM_addr, low + 16)]
        call = [value(each, *chosen[each]) for each in (C.DW_AT_abstract_origin, C.DW_AT_call_line)]
        children.append(EntrySpec(_FUNCTION, outer, [EntrySpec(C.DW_TAG_inlined_subroutine, [*call, *part])]))
        wanted += [[("inner", None, True), (f"f{index}", 7, False)], [(f"f{index}", None, False)]]
    path = write(tmp_path / "program", writer, [UnitSpec(root(writer, children), version, offset_size, address_size)])
    addresses = [TEXT + index * STEP + part for index in range(len(forms)) for part in (9, 20)]
    assert told(path, addresses) == wanted
    ends = [TEXT + index * STEP + STEP - 1 for index in range(len(forms))]
    assert [each[0][0] for each in told(path, ends)] == [f"f{index}" for index in range(len(forms))]
    assert told(path, [TEXT + len(forms) * STEP]) == [[]]


def range_lists(writer: DebugWriter, wanted: list[list[tuple[int, int]]]) -> tuple[list[int], int]:
    """Write .debug_rnglists: lists in which each kind of item stands; gives their offsets and that of their table."""
    size = writer.address_size
    word = writer.offset_size

    def address(value: int) -> bytes:
        return value.to_bytes(size, "little")

    lists = []
    for number, ranges in enumerate(wanted):
        out = b""
        for index, (low, high) in enumerate(ranges):
            kind = (number + index) % 6
            if kind == 0:  # startx_endx
                out += b"\2" + uleb(writer.address_index(low)) + uleb(writer.address_index(high))
            elif kind == 1:  # startx_length
                out += b"\3" + uleb(writer.address_index(low)) + uleb(high - low)
            elif kind == 2:  # base_addressx, offset_pair
                out += b"\1" + uleb(writer.address_index(low - 16)) + b"\4" + uleb(16) + uleb(16 + high - low)
            elif kind == 3:  # base_address, offset_pair
                out += b"\5" + address(low - 8) + b"\4" + uleb(8) + uleb(8 + high - low)
            elif kind == 4:
                out += b"\6" + address(low) + address(high)
            else:
                out += b"\7" + address(low) + uleb(high - low)
            if kind == 4:  # an empty range, and ranges of discarded code
                out += b"\6" + address(low + 1) * 2
                out += b"\7" + address((1 << 8 * size) - 1) + uleb(4) + b"\7" + address(0) + uleb(4)
        lists.append(out + b"\0")
    table_size = word * len(lists)
    offsets = [table_size + sum(map(len, lists[:index])) for index in range(len(lists))]
    body = (5).to_bytes(2, "little") + bytes([size, 0]) + len(lists).to_bytes(4, "little")
    table = (12 if word == 8 else 4) + len(body)
    body += b"".join(each.to_bytes(word, "little") for each in offsets) + b"".join(lists)
    writer.append(".debug_rnglists", initial_length(body, word))
    return [table + each for each in offsets], table


@pytest.mark.parametrize(("offset_size", "address_size"), [(4, 4), (4, 8), (8, 4), (8, 8)])
def test_every_kind_of_range_list_item(offset_size: int, address_size: int, tmp_path: Path) -> None:
    writer = DebugWriter(offset_size, address_size)
    count = 12
    wanted = [
        [(TEXT + 0x400 * part + 32 * number, TEXT + 0x400 * part + 32 * number + 24) for part in range(7)]
        for number in range(count)
    ]
    offsets, table = range_lists(writer, wanted)
    children = []
    for number in range(count):
        form, value = (C.DW_FORM_rnglistx, number) if number % 2 else (C.DW_FORM_sec_offset, offsets[number])
        name = (C.DW_AT_name, C.DW_FORM_strp, f"f{number}")
        children.append(EntrySpec(_FUNCTION, [name, (C.DW_AT_ranges, form, value)]))
    attributes: Attributes = [(C.DW_AT_rnglists_base, C.DW_FORM_sec_offset, table)]
    unit = UnitSpec(root(writer, children, attributes), 5, offset_size, address_size)
    path = write(tmp_path / "program", writer, [unit])
    addresses = [low + byte for ranges in wanted for low, _ in ranges for byte in (0, 23)]
    names = [f"f{number}" for number in range(count) for _ in range(14)]
    assert [each[0][0] if each else None for each in told(path, addresses)] == names
    assert told(path, [low + 24 for low, _ in wanted[3]]) == [[]] * 7
    assert llvm_names(path, addresses) == names


@pytest.mark.parametrize(("version", "offset_size", "address_size"), [each for each in SHAPES if each[0] in (3, 4)])
def test_range_lists_before_dwarf_5(version: int, offset_size: int, address_size: int, tmp_path: Path) -> None:
    """Base selections, empty and discarded ranges in .debug_ranges."""
    writer = DebugWriter(offset_size, address_size, version)
    top = (1 << 8 * address_size) - 1

    def pairs(*values: int) -> int:
        return writer.append(".debug_ranges", b"".join(each.to_bytes(address_size, "little") for each in values))

    writer.append(".debug_ranges", bytes(2 * address_size))
    by_unit = pairs(0x10, 0x20, 0x40, 0x40, 0x30, 0x38, 0, 0)
    with_base = pairs(top, TEXT + 0x1000, 0, 8, top, TEXT + 0x2000, 0x10, 0x18, 0, 0)
    dead = pairs(top, 0, top - 1, top - 1, 1, 1, top, TEXT + 0x3000, 4, 8, 0, 0)
    form = C.DW_FORM_sec_offset
    if version < 4:
        form = C.DW_FORM_data4 if offset_size == 4 else C.DW_FORM_data8
    children = [
        EntrySpec(_FUNCTION, [(C.DW_AT_name, C.DW_FORM_string, name), (C.DW_AT_ranges, form, place)])
        for name, place in (("by_unit", by_unit), ("with_base", with_base), ("dead", dead))
    ]
    unit = UnitSpec(root(writer, children), version, offset_size, address_size)
    path = write(tmp_path / "program", writer, [unit])
    inside = {0x10: "by_unit", 0x1F: "by_unit", 0x37: "by_unit", 0x1000: "with_base", 0x2010: "with_base",
              0x3004: "dead"}  # fmt: skip
    outside = [0xF, 0x20, 0x40, 0x1008, 0x2000, 0x2018, 0x3000, 0x3008]
    assert told(path, [TEXT + each for each in inside]) == [[(name, None, False)] for name in inside.values()]
    assert told(path, [TEXT + each for each in outside]) == [[]] * len(outside)


def inlined(origin: str, low: int, high: int, line: int, children: list[EntrySpec]) -> EntrySpec:
    return EntrySpec(
        C.DW_TAG_inlined_subroutine,
        [
            (C.DW_AT_abstract_origin, C.DW_FORM_ref_addr, origin),
            (C.DW_AT_low_pc, C.DW_FORM_addr, low),
            (C.DW_AT_high_pc, C.DW_FORM_data4, high - low),
            (C.DW_AT_call_file, C.DW_FORM_implicit_const, 1),
            (C.DW_AT_call_line, C.DW_FORM_udata, line),
        ],
        children,
    )


def abstract(name: str, **more: Any) -> EntrySpec:
    attributes: Attributes = [(C.DW_AT_name, C.DW_FORM_strp, name), (C.DW_AT_inline, C.DW_FORM_data1, 3)]
    return EntrySpec(_FUNCTION, attributes, label=name, **more)


@pytest.mark.parametrize("offset_size", [4, 8])
def test_inlined_calls_across_units(offset_size: int, tmp_path: Path) -> None:
    """A function in one unit, its abstract origins in a partial one before it and a full one behind it (LTO)."""
    writer = DebugWriter(offset_size)
    partial = UnitSpec(
        EntrySpec(C.DW_TAG_partial_unit, [(C.DW_AT_name, C.DW_FORM_string, "shared.h")], [abstract("first")]),
        5, offset_size, unit_type=C.DW_UT_partial,
    )  # fmt: skip
    nest = inlined("first", TEXT + 8, TEXT + 0x38, 10, [
        inlined("second", TEXT + 0x10, TEXT + 0x30, 20, [inlined("first", TEXT + 0x18, TEXT + 0x20, 30, [])]),
    ])  # fmt: skip
    concrete: Attributes = [
        (C.DW_AT_abstract_origin, C.DW_FORM_ref_addr, "outer"),
        (C.DW_AT_low_pc, C.DW_FORM_addr, TEXT),
        (C.DW_AT_high_pc, C.DW_FORM_udata, 0x40),
    ]
    program = LineProgram(files=(("main.c", 0), ("main.c", 0)), offset_size=offset_size)
    program.set_address(TEXT)
    program.special(0, 4)
    program.advance_pc(0x40)
    program.end_sequence()
    writer.append(".debug_line", program.finished())
    lines: Attributes = [(C.DW_AT_stmt_list, C.DW_FORM_sec_offset, 0)]
    main = UnitSpec(root(writer, [EntrySpec(_FUNCTION, concrete, [nest])], lines), 5, offset_size)
    other = UnitSpec(
        EntrySpec(_UNIT, [(C.DW_AT_name, C.DW_FORM_string, "b.c")], [abstract("second"), abstract("outer")]),
        5, offset_size,
    )  # fmt: skip
    path = write(tmp_path / "program", writer, [partial, main, other])
    wanted = {
        0x02: [("outer", 5)],
        0x0A: [("first", 5), ("outer", 10)],
        0x12: [("second", 5), ("first", 20), ("outer", 10)],
        0x19: [("first", 5), ("second", 30), ("first", 20), ("outer", 10)],
        0x3F: [("outer", 5)],
    }
    found = told(path, [TEXT + each for each in wanted])
    assert [[(name, line) for name, line, _ in each] for each in found] == list(wanted.values())
    assert llvm_names(path, [TEXT + each for each in wanted]) == [each[0][0] for each in wanted.values()]


def test_files_of_the_other_byte_order_are_refused(tmp_path: Path) -> None:
    """Their DWARF is not read as if it were little endian: there is none, and that is told."""
    writer = DebugWriter()
    path = write(tmp_path / "program", writer, [UnitSpec(root(writer, []))])
    data = bytearray(path.read_bytes())
    data[5] = 2
    swapped = tmp_path / "swapped"
    swapped.write_bytes(data)
    try:
        symbols = ModuleSymbols.open(swapped)
    except Exception as error:
        assert "swapped" in str(error) or "endian" in str(error)
    else:
        assert symbols.debug_info is None and symbols.missing is not None
        assert symbols.frames_at(TEXT) == []
