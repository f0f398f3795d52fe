"""i386 and aarch64: tables of programs and libraries against readelf, and what only its raw listing tells.

The programs are compiled and linked without a C library, so no more than the compiler has to be installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cfi_tables import aarch64, i386, layout
from cfi_tables.elf_image import ElfImage
from cfi_tables.hot_loop import plain_view
from cfi_tables.lookup import find_rule, register_list
from cfi_tables.show import format_rows
from cfi_tables.table import build_table
from cfi_tables.verify import verify_table

_SOURCE = r"""
int other(int, ...); void fill(char *, int); void escape(void *);
int leaf(int a) { return a * 3; }
int saves(int a, int b, int c)
{ int d = other(a), e = other(b), f = other(c); if (d == 3) return other(d, e, f); return d + e + f + other(d + e); }
int variable(int n) { char *p = __builtin_alloca(n); fill(p, n); return other(p[0]) + saves(n, n, n); }
int realigned(int n) { _Alignas(64) char big[256]; fill(big, n); return other(big[n & 255]); }
int large(int n) { char big[200000]; fill(big, n); return other(big[n], n, n, n, n, n, n, n, n, n); }
double floating(double a, double b) { escape(&a); escape(&b); return a * b + other((int)a); }
void loops(int n) { for (int i = 0; i < n; i++) if (!other(i, n)) { other(n); escape(&n); } }
"""
_COMPILERS = {
    "i386": ("gcc", ["-m32"], "gcc"),
    "aarch64": ("aarch64-linux-gnu-gcc", [], "gcc-aarch64-linux-gnu"),
}
_FLAGS = [
    ("-O0",), ("-O2",), ("-Os",), ("-O2", "-fomit-frame-pointer"), ("-O2", "-fno-omit-frame-pointer"),
    ("-O2", "-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"),
]  # fmt: skip
_PAC = [("-O2", "-mbranch-protection=pac-ret"), ("-O2", "-mbranch-protection=pac-ret+leaf+b-key")]


@pytest.fixture
def linked(tmp_path):
    """`linked(architecture, flags)`: the source above as a shared object."""

    def build(architecture: str, flags: tuple[str, ...]) -> Path:
        compiler, own, package = _COMPILERS[architecture]
        if shutil.which(compiler) is None:
            pytest.skip(f"{compiler} is not installed: apt install {package}")
        source, target = tmp_path / "source.c", tmp_path / "linked.so"
        source.write_text(_SOURCE)
        command = [compiler, *own, *flags, "-shared", "-nostdlib", "-fPIC", "-o", str(target), str(source)]
        subprocess.run(command, check=True, capture_output=True)
        return target

    return build


@pytest.mark.parametrize("flags", _FLAGS, ids=" ".join)
@pytest.mark.parametrize("architecture", ["i386", "aarch64"])
def test_program(architecture, flags, linked):
    image = ElfImage.open(linked(architecture, flags))
    table = build_table(image)
    assert table.skipped == []
    found = verify_table(table, image)
    assert found.fdes >= 7 and found.addresses > 60
    assert found.differences == []


@pytest.mark.parametrize(
    ("path", "package"),
    [("/lib32/libc.so.6", "libc6-i386"), ("/lib32/ld-linux.so.2", "libc6-i386"),
     ("/usr/aarch64-linux-gnu/lib/libc.so.6", "libc6-arm64-cross"),
     ("/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1", "libc6-arm64-cross")],
)  # fmt: skip
def test_c_library(path, package):
    if not Path(path).exists():
        pytest.skip(f"{path} is not there: apt install {package}")
    image = ElfImage.open(path)
    table = build_table(image)
    assert table.skipped == []
    found = verify_table(table, image)
    assert found.fdes > 200 and found.differences == []


def _raw_fdes(path: Path) -> list[tuple[int, int, str, list[str]]]:
    """(start, end, augmentation, instructions with those of the CIE first) from readelf's raw listing."""
    text = subprocess.run(["readelf", "-wNf", str(path)], capture_output=True, text=True, check=True).stdout
    cies: dict[str, tuple[str, list[str]]] = {}
    fdes: list[tuple[int, int, str, list[str]]] = []
    instructions: list[str] = []
    for line in text.splitlines():
        if (entry := re.match(r"^([0-9a-f]+) [0-9a-f]+ [0-9a-f]+ CIE", line)) is not None:
            instructions = []
            cies[entry[1]] = ("", instructions)
            latest = entry[1]
        elif (augmentation := re.match(r'^  Augmentation: +"(.*)"', line)) is not None:
            cies[latest] = (augmentation[1], instructions)
        elif (entry := re.match(r"^\S+ \S+ \S+ FDE cie=(\S+) pc=(\w+)\.\.(\w+)", line)) is not None:
            name, initial = cies[entry[1]]
            instructions = list(initial)
            fdes.append((int(entry[2], 16), int(entry[3], 16), name, instructions))
        elif line.startswith("  DW_CFA_"):
            instructions.append(line.strip())
    return fdes


def _signed_ranges(start: int, end: int, instructions: list[str]) -> list[tuple[int, int, bool]]:
    """Where the return address is signed, by replaying readelf's raw listing of an FDE."""
    ranges, signed, at = [], False, start
    remembered: list[bool] = []
    for instruction in instructions:
        if (moved := re.search(r"advance_loc\d*: \d+ to ([0-9a-f]+)", instruction)) is not None:
            ranges.append((at, int(moved[1], 16), signed))
            at = int(moved[1], 16)
        elif "negate_ra_state" in instruction:
            signed = not signed
        elif "remember_state" in instruction:
            remembered.append(signed)
        elif "restore_state" in instruction:
            signed = remembered.pop()
    return [*ranges, (at, end, signed)]


@pytest.mark.parametrize("flags", _PAC, ids=" ".join)
def test_return_address_signing(flags, linked):
    path = linked("aarch64", flags)
    image = ElfImage.open(path)
    table = build_table(image)
    assert verify_table(table, image).differences == []
    view = plain_view(table.data)
    key = layout.RULE_FLAG_SIGNED_WITH_KEY_B
    seen = set()
    for start, end, augmentation, instructions in _raw_fdes(path):
        for low, high, signed in _signed_ranges(start, end, instructions):
            for pc in range(low, high, 4):
                flag = view[register_list(view, 0, find_rule(view, 0, pc)) + 1]
                assert bool(flag & layout.RULE_FLAG_RETURN_ADDRESS_SIGNED) == signed
                assert bool(flag & key) == (signed and "B" in augmentation)
                seen.add((signed, bool(flag & key)))
    assert seen == {(False, False), (True, "b-key" in flags[1])}
    assert any("ra signed with key" in line for line in format_rows(table))


def test_outermost_frames_of_aarch64():
    """readelf's rows show an undefined x30 like one that is not mentioned; its raw listing tells them apart."""
    path = Path("/usr/aarch64-linux-gnu/lib/libc.so.6")
    if not path.exists():
        pytest.skip(f"{path} is not there: apt install libc6-arm64-cross")
    table = build_table(ElfImage.open(path))
    view = plain_view(table.data)
    ends = {address for address, offset in table.rows() if view[offset] == layout.CFA_KIND_END}
    marked = [
        (start, end) for start, end, _, listed in _raw_fdes(path) if any("undefined: r30" in each for each in listed)
    ]
    assert ends and marked
    assert all(any(low <= address < high for low, high in marked) for address in ends)
    assert all(any(low <= address < high for address in ends) for low, high in marked)


def test_return_through_another_register():
    """glibc's rawmemchr returns through x15, which its CIE says; found by readelf's CIE listing."""
    path = Path("/usr/aarch64-linux-gnu/lib/libc.so.6")
    if not path.exists():
        pytest.skip(f"{path} is not there: apt install libc6-arm64-cross")
    listing = subprocess.run(["readelf", "-wNF", str(path)], capture_output=True, text=True, check=True).stdout
    cie = re.search(r'^(\w+) \w+ \w+ CIE ".*" .*ra=15$', listing, re.MULTILINE)
    if cie is None:
        pytest.skip("this libc has no such CIE")
    start = re.search(rf"FDE cie={cie[1]} pc=(\w+)\.\.", listing)
    assert start is not None
    table = build_table(ElfImage.open(path))
    (line,) = format_rows(table, int(start[1], 16))
    assert line.endswith("CFA=sp  x30=x15")


@pytest.mark.parametrize("architecture", [i386.ARCHITECTURE, aarch64.ARCHITECTURE])
def test_numbers(architecture, linked):
    """The compiler's own numbering, through the assembler: `.cfi_offset NAME` gives the DWARF number of NAME."""
    compiler, own, package = _COMPILERS[architecture.name]
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed: apt install {package}")
    names = {
        number: name for number, name in enumerate(architecture.register_names) if number != architecture.return_column
    }
    source = ".text\nf:\n.cfi_startproc\n" + "".join(
        f"nop\n.cfi_register {architecture.return_column}, {name}\n" for name in names.values()
    )
    path = Path(linked(architecture.name, ("-O0",))).with_name("numbers.so")
    command = [compiler, *own, "-shared", "-nostdlib", "-x", "assembler", "-o", str(path), "-"]
    subprocess.run(command, input=source + "nop\n.cfi_endproc\n", text=True, check=True)
    table = build_table(ElfImage.open(path))
    lists = [register_list(plain_view(table.data), 0, offset) for _, offset in table.rows()][1:]
    values = [
        int.from_bytes(table.data[place + 4 : place + 8].tobytes(), "little") >> 9
        for place in lists
        if table.data[place]
    ]
    assert values == list(names)
