"""A whole Debian kernel with DWARF: its one table against readelf and objtool, and who is right where they differ.

ORC's and DWARF's frame addresses differ at some thousand places. Each is explained here from the machine code, and in
each the table has the one that is right.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest

from cfi_tables import layout
from cfi_tables.cfi_sources import code_ranges
from cfi_tables.elf_image import ElfImage
from cfi_tables.hot_loop import plain_view
from cfi_tables.image_file import open_image
from cfi_tables.lookup import register_list
from cfi_tables.objtool_rows import read_objtool_dump
from cfi_tables.readelf_rows import ReadelfRule, readelf_frames
from cfi_tables.rule_words import END, GAP, RuleWords
from cfi_tables.show import describe_rule
from cfi_tables.statistics import table_statistics
from cfi_tables.table import CompactTable, build_table
from cfi_tables.verify import table_offsets, verify_table


@dataclass
class Kernel:
    """A kernel with DWARF, its table and what others read in it."""

    path: Path
    plain: Path
    """The same kernel out of its boot image: small, and quickly disassembled."""
    dump: Path
    """objtool's."""

    @cached_property
    def alternatives(self) -> list[tuple[int, int, int, int]]:
        """(code, its length, what may replace it, that one's length): `struct alt_instr` of 6.1."""
        section = self.image.sections[".altinstructions"]
        entry = struct.Struct("<iiHBB")
        places = range(section.address, section.address + section.size, entry.size)
        rows = entry.iter_unpack(self.image.section_data(section.name).tobytes())
        return [
            (place + code, length, place + 4 + other, other_length)
            for place, (code, other, _, length, other_length) in zip(places, rows, strict=True)
        ]

    @cached_property
    def image(self) -> ElfImage:
        return ElfImage.open(self.path)

    @cached_property
    def table(self) -> CompactTable:
        return build_table(self.image)


@pytest.fixture(scope="module")
def whole(debug_kernel, one_kernel, tmp_path_factory) -> Kernel:
    folder = tmp_path_factory.mktemp("kernel")
    plain = folder / "vmlinux"
    open_image(one_kernel.vmlinuz).data.tofile(plain)
    subprocess.run(["objcopy", "--add-symbol", "one=0xffffffff81000000,global", str(plain)], check=True)
    one_kernel.dump_orc(plain, folder / "dump")
    return Kernel(debug_kernel[0], plain, folder / "dump")


def test_size(whole):
    found = table_statistics(whole.table, whole.image)
    assert set(found.replaced) == {".debug_frame", ".orc_unwind", ".orc_unwind_ip"}
    assert found.ratio is not None and found.ratio <= 0.20
    assert whole.table.skipped == [] and layout.CfaKind.OVERFLOW not in found.rows_by_kind


def test_the_file_is_mapped_and_not_read(whole):
    """The kernel is 600 MB, most of it debug information: less than that is in memory at any time."""
    # Not ru_maxrss: that begins with what the process that starts this one has.
    program = (
        "import re, sys; from cfi_tables.elf_image import ElfImage; from cfi_tables.table import build_table\n"
        "build_table(ElfImage.open(sys.argv[1]))\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    command = [sys.executable, "-c", program, str(whole.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < whole.path.stat().st_size


def test_every_boundary(whole):
    found = verify_table(whole.table, whole.image, None, whole.dump)
    assert found.orc_checked and found.differences == []
    assert found.fdes > 40_000 and found.addresses > 900_000
    known = found.addresses - found.sources["neither ORC nor DWARF"]
    assert found.sources["ORC and DWARF with the same CFA"] > 0.98 * known


def test_without_a_dump_dwarf_is_still_compared(whole):
    """Another place of r12, of which only DWARF knows, is found at every address where the rule holds."""
    table = whole.table
    addresses, offsets = table.row_columns()
    rules, first = np.unique(offsets, return_index=True)
    offset, row = next(
        (offset, row)
        for offset, row in zip(rules.tolist(), first.tolist(), strict=True)
        if "r12=[CFA-" in describe_rule(table.data, offset)
    )
    view = plain_view(table.data)
    entries = register_list(view, 0, offset)
    places = [entries + 4 + 4 * index for index in range(view[entries])]
    (place,) = [place for place in places if view[place] & 63 == 12]
    data = bytearray(table.data.tobytes())
    data[place + 1] ^= 16  # 8 bytes
    data[layout.HEADER_CHECKSUM : layout.HEADER_CHECKSUM + 4] = bytes(4)
    data[layout.HEADER_CHECKSUM : layout.HEADER_CHECKSUM + 4] = zlib.crc32(data).to_bytes(4, "little")
    found = verify_table(CompactTable(np.frombuffer(bytes(data), dtype=np.uint8), "changed"), whole.image)
    assert found.orc_checked is False
    assert table.text_range[0] + int(addresses[row]) in {difference.address for difference in found.differences}


def test_module_with_dwarf(debug_kernel, one_kernel, tmp_path):
    """A relocatable file with both sources: ld places its sections for readelf, objtool reads its ORC."""
    image = open_image(debug_kernel[1])
    table = build_table(image)
    one_kernel.dump_orc(debug_kernel[1], tmp_path / "dump")
    found = verify_table(table, image, None, tmp_path / "dump")
    assert found.orc_checked and found.differences == [] and table.skipped == []
    assert found.sources["ORC and DWARF with the same CFA"] > 20_000


# --- who is right where ORC and DWARF differ

_INSTRUCTION = re.compile(r"^ *([0-9a-f]+):\t(.*)$")
_MOVED = {"push": -8, "pushf": -8, "pushfq": -8, "pushq": -8, "pop": 8, "popf": 8, "popfq": 8, "popq": 8}


def _instructions(path: Path, start: int, end: int) -> list[tuple[int, str, str]]:
    """(address, mnemonic, operands) of what objdump finds in [start, end)."""
    command = ["objdump", "-d", "--no-show-raw-insn", f"--start-address={start:#x}", f"--stop-address={end:#x}"]
    text = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True).stdout
    found = []
    for line in text.splitlines():
        if (match := _INSTRUCTION.match(line)) is not None:
            mnemonic, _, operands = match[2].split("#")[0].strip().partition(" ")
            found.append((int(match[1], 16), mnemonic, operands.strip()))
    return found


def _movement(code: list[tuple[int, str, str]]) -> int:
    """How far `code`, run from top to bottom, moves rsp."""
    moved = 0
    for _, mnemonic, operands in code:
        if mnemonic in _MOVED:
            moved += _MOVED[mnemonic]
        elif operands.endswith(",%rsp"):
            change = re.fullmatch(r"\$(-?0x[0-9a-f]+),%rsp", operands)
            assert change is not None and mnemonic in ("add", "sub"), (mnemonic, operands)
            moved += int(change[1], 16) * (1 if mnemonic == "add" else -1)
    return moved


def _offset(cfa: str) -> int:
    assert cfa.startswith("rsp"), cfa
    return int(cfa.removeprefix("rsp"))


def _explained(orc: str, dwarf: str, before: str, code: list[tuple[int, str, str]]) -> str:
    """Why `dwarf` is not `orc`, behind `code`, in front of which both were `before`. Fails where that is not known."""
    text = [f"{mnemonic} {operands}" for _, mnemonic, operands in code]
    if orc.startswith("*(rsp+0)"):
        saved = [re.fullmatch(r"mov %rsp,\((%\w+)\)", line) for line in text]
        registers = {match[1] for match in saved if match is not None}
        assert any(f"mov {register},%rsp" in text for register in registers), text
        return "inline assembly switched the stack"
    if not dwarf.startswith("rsp"):
        register, offset = re.fullmatch(r"(r\d+)\+(\d+)", dwarf).groups()
        loads = [re.fullmatch(rf"lea +(0x[0-9a-f]+)\(%rsp\),%{register}", line) for line in text]
        (last,) = [index for index, match in enumerate(loads) if match is not None]
        assert _offset(orc) == int(loads[last][1], 16) + int(offset) - _movement(code[last:]), text
        return "the register is a copy of the frame address"
    assert dwarf == before and _offset(orc) == _offset(before) - _movement(code), (orc, dwarf, before, text)
    return "inline assembly moved the stack pointer"


def _by_an_alternative(whole: Kernel, orc: str, before: str, pc: int, known: dict[bytes, int]) -> bool:
    """Whether `pc` lies in code that may be replaced, by what moves the stack pointer from `before` to `orc` there.

    `known` keeps how far the bytes of a replacement move it: few different ones stand at many places.
    """
    for code, length, other, other_length in whole.alternatives:
        if code < pc < code + length and pc - code <= other_length and orc.startswith("rsp"):
            text = whole.image.read(other, pc - code)
            if text not in known:
                known[text] = _movement(_instructions(whole.plain, other, other + (pc - code)))
            if _offset(orc) == _offset(before) - known[text]:
                return True
    return False


def _expressions(path: Path) -> dict[int, set[str]]:
    """Start of an FDE -> its expressions, as readelf prints them."""
    process = subprocess.Popen(["readelf", "-wNf", str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found: dict[int, set[str]] = {}
    start = 0
    for line in process.stdout:
        if (entry := re.search(r" FDE cie=\w+ pc=([0-9a-f]+)\.\.", line)) is not None:
            start = int(entry[1], 16)
        elif "_expression" in line:
            found.setdefault(start, set()).add(line.strip())
    assert process.wait() == 0
    return found


def test_where_orc_and_dwarf_differ(whole):
    dwarf = readelf_frames(whole.path)[".debug_frame"].inside(code_ranges(whole.image))
    orc = read_objtool_dump(whole.dump, whole.image)
    bounds = np.unique(np.concatenate([dwarf.boundaries(), orc.addresses]))
    said = list(zip(orc.words_at(bounds).tolist(), dwarf.rules_at(bounds).tolist(), strict=True))
    texts = table_offsets(whole.table, bounds).tolist()
    expressions = _expressions(whole.path)
    classes: Counter[str] = Counter()
    movements: dict[bytes, int] = {}
    shown: dict[int, str] = {}
    agreed, before = 0, ""
    for pc, following, (entry, rule), offset in zip(bounds.tolist(), bounds[1:].tolist(), said, texts, strict=False):
        of_orc = orc.words[entry] if entry >= 0 else GAP
        of_dwarf: ReadelfRule | None = dwarf.words[rule] if rule >= 0 else None
        if (
            of_dwarf is None
            or of_orc == END
            or (isinstance(of_orc, RuleWords) and ("ra", "c-8") not in of_orc.registers)
        ):
            agreed = 0
            continue
        start = int(dwarf.starts[np.searchsorted(dwarf.starts, np.uint64(pc), side="right") - 1])
        if of_orc == GAP:
            classes[_without_orc(whole, orc, pc, following, start)] += 1
            agreed = 0
            continue
        assert isinstance(of_orc, RuleWords)
        told = dict(of_orc.registers)
        rbp = dict(of_dwarf.registers).get("rbp", "u")
        if of_dwarf.cfa == "exp":
            match = re.fullmatch(r"\*\(rbp(-\d+)\)\+0", of_orc.cfa)
            assert match is not None, of_orc
            wanted = f"DW_CFA_def_cfa_expression (DW_OP_breg6 (rbp): {match[1]}; DW_OP_deref)"
            assert {each for each in expressions[start] if "def_cfa" in each} == {wanted}
            classes["an expression that says the same"] += 1
        elif of_dwarf.cfa != of_orc.cfa:
            assert start <= agreed < pc, hex(pc)
            if of_dwarf.cfa == before and _by_an_alternative(whole, of_orc.cfa, before, pc, movements):
                classes["code that the kernel puts in place of other code as it starts"] += 1
            else:
                code = _instructions(whole.plain, agreed, pc)
                classes[_explained(of_orc.cfa, of_dwarf.cfa, before, code)] += 1
        else:
            agreed, before = pc, of_orc.cfa
        if rbp == "exp":
            assert told["rbp"] == "exp (rbp)", of_orc
            wanted = "DW_CFA_expression: r6 (rbp) (DW_OP_breg6 (rbp): 0)"
            assert {each for each in expressions[start] if "DW_CFA_expression: r6 " in each} == {wanted}
            classes["an expression for rbp that says the same"] += 1
        else:
            assert told.get("rbp", "u") == rbp.replace("s", "u"), hex(pc)
        # and the table has ORC's, in each of these
        if offset not in shown:
            shown[offset] = describe_rule(whole.table.data, offset).split("  ")[0].removeprefix("CFA=")
        assert shown[offset] == re.sub(r"\+0(?=\)|$)", "", of_orc.cfa), hex(pc)
    assert len(classes) == 8, classes


def _without_orc(whole: Kernel, orc, pc: int, following: int, start: int) -> str:
    """Why ORC says nothing in [pc, following), where DWARF does."""
    entry = int(orc.words_at(np.array([start], dtype=np.uint64))[0])
    if entry < 0 or orc.words[entry] == GAP:
        return "a function that objtool does not check"
    if set(whole.image.read(pc, following - pc)) == {0xCC}:
        return "padding behind a jump"
    code = _instructions(whole.plain, pc, following)
    assert all(re.match(r"int3|.*nop", f"{mnemonic} {operands}") for _, mnemonic, operands in code), code
    return "padding behind a jump"


def test_retpoline_thunks_have_the_rows_that_their_code_asks_for(whole):
    """By objdump: the return address is on top up to the call, and behind the call's own afterwards."""
    symbols = subprocess.run(["nm", str(whole.path)], capture_output=True, text=True, check=True).stdout
    starts = {int(at, 16) for at in re.findall(r"^(\w+) . __x86_indirect_(?:call_|jump_)?thunk_r\w+$", symbols, re.M)}
    assert len(starts) >= 15
    view = plain_view(whole.table.data)
    for start in sorted(starts):
        span = [f"--start-address={start:#x}", f"--stop-address={start + 48:#x}"]
        listing = subprocess.run(
            ["objdump", "-d", "--no-show-raw-insn", *span, str(whole.plain)], capture_output=True, text=True, check=True
        ).stdout
        depth, seen = 8, []
        for at, name in re.findall(r"^\s*([0-9a-f]+):\s+(\w+)", listing, re.M):
            offset = int(table_offsets(whole.table, np.array([int(at, 16)], dtype=np.uint64))[0])
            seen.append(name)
            assert f"rsp+{depth}" in describe_rule(view, offset), at
            if name == "call":
                depth += 8
            if name == "ret" or (name == "jmp" and "mov" in seen):
                break
        assert seen[-1] in ("ret", "jmp") and "mov" in seen
