"""Every row of the compact table against readelf's decoding of the same section.

readelf prints "u" both for a register that the CFI calls undefined and for one it does not mention, and "exp"
for every expression; the comparison folds the table's rules in the same way. It knows no other difference.
"""

from __future__ import annotations

import itertools
import random

import pytest

from cfi_tables import layout, x86_64
from cfi_tables.elf_image import ElfImage
from cfi_tables.hot_loop import plain_view
from cfi_tables.lookup import find_rule, register_list
from cfi_tables.table import CompactTable, build_table

_PREFIX = {layout.REGISTER_KIND_AT_CFA: "c", layout.REGISTER_KIND_CFA_PLUS: "v"}
_WORD = {
    layout.REGISTER_KIND_UNDEFINED: "u",
    layout.REGISTER_KIND_SAME: "s",
    layout.REGISTER_KIND_EXPRESSION: "exp",
    layout.REGISTER_KIND_VAL_EXPRESSION: "vexp",
}


def _rule_words(data: bytes, offset: int) -> tuple[str, dict[str, str]] | str:
    """(CFA, register -> rule) in readelf's words, or "end" or "gap"."""
    kind = data[offset]
    if kind == layout.CFA_KIND_INVALID:
        return "gap"
    if kind == layout.CFA_KIND_END:
        return "end"
    assert kind != layout.CFA_KIND_OVERFLOW
    value = int.from_bytes(data[offset + 4 : offset + 8], "little", signed=True)
    cfa = "exp"
    if kind == layout.CFA_KIND_REGISTER_OFFSET:
        cfa = f"{x86_64.REGISTER_NAMES[data[offset + 1]]}{value:+d}"
    registers = {}
    entries = register_list(memoryview(data), 0, offset)
    for index in range(data[entries]):
        entry = int.from_bytes(data[entries + 4 + 4 * index : entries + 8 + 4 * index], "little", signed=True)
        how, value = entry >> 6 & 7, entry >> 9
        if how in _PREFIX:
            word = f"{_PREFIX[how]}{value:+d}"
        elif how == layout.REGISTER_KIND_IN_REGISTER:
            word = x86_64.REGISTER_NAMES[value]
        else:
            word = _WORD[how]
        registers[x86_64.REGISTER_NAMES[entry & 63]] = word
    return cfa, registers


def _readelf_words(cfa: str, registers: dict[str, str]) -> tuple[str, dict[str, str]] | str:
    saved = {x86_64.REGISTER_NAMES[number] for number in x86_64.CALLEE_SAVED}
    if registers.get("ra", "u") == "u":
        return "end"
    kept = {
        name: rule
        for name, rule in registers.items()
        if name in x86_64.REGISTER_NAMES and rule != "u" and not (rule == "s" and name in saved)
    }
    return cfa, kept


def _expected(fdes: list) -> dict[int, object]:
    """Address -> rule at each place where readelf's rows change, gaps too."""
    expected: dict[int, object] = {}
    for fde in sorted(fdes, key=lambda fde: fde.start):
        expected.pop(fde.start, None)
        for address, cfa, registers in fde.rows:
            if address < fde.end:
                expected[address] = _readelf_words(cfa, registers)
        expected[fde.end] = "gap"
    return expected


def _check(table: CompactTable, fdes: list, section: str) -> int:
    assert not table.skipped, table.skipped
    data = table.data.tobytes()
    starts = sorted((fde.start, fde.end) for fde in fdes)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(starts)), "overlaps: readelf cannot tell"
    expected = _expected(fdes)
    actual = {address: _rule_words(data, offset) for address, offset in table.rows()}
    actual[table.text_range[1]] = "gap"

    # Both as sequences without repetition, so that merged rows compare equal.
    def squeeze(rows: dict[int, object]) -> list[tuple[int, object]]:
        result: list[tuple[int, object]] = []
        for address in sorted(rows):
            if not result or result[-1][1] != rows[address]:
                result.append((address, rows[address]))
        return result

    left, right = squeeze(actual), squeeze(expected)
    different = [pair for pair in zip(left, right, strict=False) if pair[0] != pair[1]]
    assert not different, (section, [(hex(a[0]), a, b) for a, b in different[:5]])
    assert len(left) == len(right)
    return len(left)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize(
    "flags",
    [("-O0", "-fomit-frame-pointer"), ("-O2", "-fomit-frame-pointer"), ("-O2", "-fno-omit-frame-pointer"), ("-Os",),
     ("-O3", "-mavx2"), ("-O2", "-static"), ("-O2", "-no-pie"), ("-O2", "-static-pie")],
    ids=" ".join,
)  # fmt: skip
def test_program(compiler, flags, build_program, readelf_rows):
    path = build_program(compiler, *flags)
    assert _check(build_table(ElfImage.open(path)), readelf_rows(path, ".eh_frame"), ".eh_frame") > 20


@pytest.mark.parametrize(
    "name", ["libc.so.6", "libstdc++.so.6", "libcrypto.so.3", "ld-linux-x86-64.so.2", "libm.so.6", "gdb", "python3.11"]
)
def test_installed_file(name, system_file, readelf_rows):
    path = system_file(name)
    assert _check(build_table(ElfImage.open(path)), readelf_rows(path, ".eh_frame"), ".eh_frame") > 100


def test_debug_frame_fills_gaps(build_program, readelf_rows):
    path = build_program("gcc", "-O2", "-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables")
    image = ElfImage.open(path)
    table = build_table(image)
    described = [fde for fde in readelf_rows(path, ".debug_frame") if fde.rows]
    assert described, "the program has no .debug_frame"
    arena = table.data.tobytes()
    for fde in described:
        for address, cfa, registers in fde.rows:
            if address >= fde.end:
                continue
            offset = find_rule(memoryview(arena), 0, address)
            assert offset >= 0
            assert _rule_words(arena, offset) == _readelf_words(cfa, registers)
    # and .eh_frame still holds where it speaks
    for fde in readelf_rows(path, ".eh_frame"):
        for address, cfa, registers in fde.rows:
            offset = find_rule(memoryview(arena), 0, address)
            assert _rule_words(arena, offset) == _readelf_words(cfa, registers)


def test_debug_frame_of_the_debug_file(build_program, tmp_path):
    import subprocess

    path = build_program("gcc", "-O2", "-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables")
    whole = build_table(ElfImage.open(path))
    stripped, debug = tmp_path / "stripped", tmp_path / "stripped.debug"
    subprocess.run(["objcopy", "--only-keep-debug", str(path), str(debug)], check=True)
    subprocess.run(["objcopy", "--strip-debug", str(path), str(stripped)], check=True)
    image = ElfImage.open(stripped)
    assert build_table(image).row_count < whole.row_count
    assert build_table(image, ElfImage.open(debug)).data.tobytes()[12:] == whole.data.tobytes()[12:]


def test_lookup_at_every_boundary(system_file):
    table = build_table(ElfImage.open(system_file("libc.so.6")))
    rows = list(table.rows())
    # A second table in front: offsets in the arena are not offsets in the table.
    prefix = build_table(ElfImage.open(system_file("ls"))).data.tobytes()
    arena = memoryview(prefix + table.data.tobytes())
    base = len(prefix)
    start, end = table.text_range
    assert find_rule(arena, base, start - 1) == -1
    assert find_rule(arena, base, end) == -1
    bounds = [*[address for address, _ in rows[1:]], end]
    for (address, offset), following in zip(rows, bounds, strict=True):
        wanted = -1 if table.data[offset] == layout.CFA_KIND_INVALID else base + offset
        assert find_rule(arena, base, address) == wanted
        assert find_rule(arena, base, following - 1) == wanted


@pytest.mark.parametrize("name", ["libc.so.6", "ls", "libstdc++.so.6"])
def test_plain_and_compiled_agree(name, system_file):
    from cfi_tables.hot_loop import compiled

    image = ElfImage.open(system_file(name))
    plain, fast = build_table(image, use_compiled=False), build_table(image, use_compiled=True)
    assert plain.data.tobytes() == fast.data.tobytes()
    low, high = plain.text_range
    view, lookup = plain_view(plain.data), compiled(find_rule)
    source = random.Random(name)
    for _ in range(2000):
        pc = source.randrange(low - 5, high + 5)
        assert find_rule(view, 0, pc) == lookup(fast.data, 0, pc)
