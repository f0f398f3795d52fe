"""Tables of relocatable objects against the table of the same object after linking, by ld's own relocation.

The linker places the sections elsewhere, so rules are compared function by function, at every byte of each.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from cfi_tables.elf_image import SHF_ALLOC, SHF_EXECINSTR, ElfError, ElfImage
from cfi_tables.hot_loop import plain_view
from cfi_tables.layout import FrameProblem
from cfi_tables.lookup import find_rule
from cfi_tables.relocation import link_view
from cfi_tables.show import describe_rule
from cfi_tables.symbol_table import STT_FUNC, symbols
from cfi_tables.table import CompactTable, build_table
from cfi_tables.verify import verify_table

_SOURCE = r"""
int other(int, ...); void fill(char *, int);
int leaf(int a) { return a * 3; }
__attribute__((cold)) int cold(int a, int b) { return other(a, b) + other(b); }
__attribute__((section(".init.text"))) int first(int a) { char b[100]; fill(b, a); return other(b[a]); }
int saves(int a, int b, int c)
{ int d = other(a), e = other(b), f = other(c); if (d == 3) return cold(d, e); return d + e + f + other(d + e); }
int variable(int n) { char *p = __builtin_alloca(n); fill(p, n); return other(p[0]) + saves(n, n, n); }
int main(int n, char **v) { return n > 3 ? variable(n) : first(n); }
"""
_COMPILERS = {
    "x86-64": ("gcc", [], "gcc"),
    "i386": ("gcc", ["-m32"], "gcc"),
    "aarch64": ("aarch64-linux-gnu-gcc", [], "gcc-aarch64-linux-gnu"),
}
_FLAGS = [
    ("-O2",), ("-O0", "-ffunction-sections"), ("-Os", "-fomit-frame-pointer", "-ffunction-sections"),
    ("-O2", "-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"),
    ("-O2", "-g", "-gz=zlib", "-ffunction-sections", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"),
]  # fmt: skip


def _compile(folder: Path, architecture: str, flags: tuple[str, ...]) -> Path:
    compiler, own, package = _COMPILERS[architecture]
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed: apt install {package}")
    source, target = folder / "source.c", folder / "object.o"
    source.write_text(_SOURCE)
    subprocess.run([compiler, *own, *flags, "-fPIC", "-c", "-o", str(target), str(source)], check=True)
    return target


def _link(architecture: str, obj: Path) -> Path:
    compiler, own, _ = _COMPILERS[architecture]
    target = obj.with_suffix(".so")
    subprocess.run([compiler, *own, "-shared", "-nostdlib", "-o", str(target), str(obj)], check=True)
    return target


def _functions(image: ElfImage) -> dict[str, tuple[int, int, int]]:
    """Name -> (section index, value, size)."""
    table = symbols(image)
    assert table is not None
    return {
        table.name(index): (int(table.section[index]), int(table.value[index]), int(table.size[index]))
        for index in range(len(table))
        if table.type[index] == STT_FUNC and table.section[index]
    }


def _rule_text(table: CompactTable, pc: int) -> str:
    view = plain_view(table.data)
    offset = find_rule(view, 0, pc)
    return "nothing" if offset < 0 else describe_rule(view, offset)


@pytest.mark.parametrize("flags", _FLAGS, ids=" ".join)
@pytest.mark.parametrize("architecture", list(_COMPILERS))
def test_object_equals_what_the_linker_makes_of_it(architecture, flags, tmp_path):
    obj = _compile(tmp_path, architecture, flags)
    before, after = ElfImage.open(obj), ElfImage.open(_link(architecture, obj))
    table, linked = build_table(before), build_table(after)
    assert table.skipped == []
    assert verify_table(linked, after).differences == []
    bases = link_view(before).addresses
    placed = _functions(after)
    compared = 0
    for name, (section, value, size) in _functions(before).items():
        for byte in range(size):
            wanted = _rule_text(linked, placed[name][1] + byte)
            assert wanted.startswith("CFA=")
            assert _rule_text(table, bases[section] + value + byte) == wanted, (name, byte)
            compared += 1
    assert compared > 100


def test_code_sections_lie_one_after_the_other(tmp_path):
    image = ElfImage.open(_compile(tmp_path, "x86-64", ("-O0", "-ffunction-sections")))
    view = link_view(image)
    assert len(view.code_ranges) >= 6
    end = 0
    for low, high in view.code_ranges:
        assert end <= low < high < view.unresolved
        assert low - end < 64
        end = high
    for section in image.section_list[1:]:
        assert view.addresses[section.index] % max(section.alignment, 1) == 0
        if section.flags & SHF_ALLOC and not section.flags & SHF_EXECINSTR:
            assert view.addresses[section.index] >= end


def _patched(image: ElfImage, obj: Path, entry: int, **fields: int) -> ElfImage:
    """`obj` with fields of one entry of .rela.eh_frame changed."""
    data = bytearray(obj.read_bytes())
    section = image.sections[".rela.eh_frame"]
    place = section.offset + 24 * entry
    offset, info, addend = struct.unpack_from("<QQq", data, place)
    kind, symbol = fields.get("type", info & 0xFFFFFFFF), fields.get("symbol", info >> 32)
    struct.pack_into("<QQq", data, place, fields.get("offset", offset), symbol << 32 | kind, addend)
    return ElfImage.from_bytes(bytes(data), "patched")


def test_damaged_relocations_are_told(tmp_path):
    obj = _compile(tmp_path, "x86-64", ("-O2",))
    image = ElfImage.open(obj)
    for fields, message in (
        ({"type": 99}, r"section .rela.eh_frame has relocations of type 99"),
        ({"symbol": 1 << 20}, "names a symbol that is not there"),
        ({"offset": 1 << 30}, "behind the end of .eh_frame"),
        ({"offset": (1 << 64) - 8}, "negative"),
    ):
        with pytest.raises(ElfError, match=message):
            build_table(_patched(image, obj, 0, **fields))


def test_code_of_another_object_is_left_out(tmp_path):
    obj = _compile(tmp_path, "x86-64", ("-O2",))
    image = ElfImage.open(obj)
    table = symbols(image)
    assert table is not None
    table_of_patched = build_table(_patched(image, obj, 0, symbol=int(table.find("other")[0])))
    assert [problem.reason for problem in table_of_patched.skipped] == [FrameProblem.DEAD]
