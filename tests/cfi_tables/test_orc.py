"""ORC against the kernel's own objtool, on a whole kernel and its modules; layouts, damage, and ORC with DWARF."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kernel.kernel_package import KernelPackage

from cfi_tables import layout
from cfi_tables.elf_image import ElfError, ElfImage
from cfi_tables.hot_loop import plain_view, wrap64
from cfi_tables.image_file import open_image
from cfi_tables.lookup import find_rule
from cfi_tables.objtool_rows import ObjtoolError, read_objtool_dump
from cfi_tables.orc import kernel_release
from cfi_tables.relocation import link_view
from cfi_tables.retpoline_thunks import retpoline_thunks
from cfi_tables.show import describe_rule, format_rows
from cfi_tables.table import CompactTable, build_table
from cfi_tables.verify import table_offsets, verify_table

_NAMES = {"ax": "rax", "di": "rdi", "dx": "rdx", "bp": "rbp", "sp": "rsp", "r10": "r10", "r13": "r13"}
_OLD = re.compile(r"^(?P<at>\S+): sp:(?P<sp>\S+) bp:(?P<bp>\S+) type:(?P<type>.*) end:(?P<end>\d)$")
_NEW = re.compile(r"^(?P<at>\S+?): ?type:(?P<type>.*) sp:(?P<sp>\S+) bp:(?P<bp>\S+) signal:(?P<signal>\d)$")
_REGISTERS = ["r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"]
_UNKNOWN = dict.fromkeys(("rbx", "r12", "r13", "r14", "r15"), "unknown")


def _expected(entry: re.Match[str]) -> tuple[str, dict[str, str], bool] | str:
    """An entry as objtool prints it, as (CFA, registers, signal frame) in the words of `describe_rule`."""
    words = entry.groupdict()
    if words["sp"] == "(und)":
        return "outermost frame" if words.get("end") == "1" or words["type"] == "end" else "nothing"
    if (indirect := re.fullmatch(r"\((\w+)([+-]\d+)?\)([+-]\d+)?", words["sp"])) is not None:
        inside, outside = int(indirect[2] or 0), int(indirect[3] or 0)
        cfa = f"*({_NAMES[indirect[1]]}{inside:+d})" if inside else f"*({_NAMES[indirect[1]]})"
        cfa += f"{outside:+d}" if outside else ""
    else:
        plain = re.fullmatch(r"(\w+?)([+-]\d+)", words["sp"])
        assert plain is not None, words
        cfa = _NAMES[plain[1]] + (f"{int(plain[2]):+d}" if int(plain[2]) else "")
    kind = words["type"]
    signal = words["signal"] == "1" if "signal" in words else kind != "call"
    if kind == "regs":
        saved = {name: f"[CFA+{8 * index}]" if index else "[CFA]" for index, name in enumerate(_REGISTERS)}
        return cfa, saved | {"ra": "[CFA+128]", "rsp": "[CFA+152]"}, signal
    saved = dict(_UNKNOWN)
    if words["bp"].startswith("prevsp"):
        saved["rbp"] = f"[CFA{words['bp'].removeprefix('prevsp')}]"
    elif words["bp"] != "(und)":
        saved["rbp"] = "[(rbp" + words["bp"].removeprefix("bp").replace("+0", "") + ")]"
    saved |= {"ra": "[CFA-8]"} if kind == "call" else {"ra": "[CFA]", "rsp": "[CFA+24]"}
    assert kind in ("call", "regs (partial)"), kind
    return cfa, saved, signal


def _actual(table: CompactTable, pc: int, known: dict[int, object]) -> object:
    return _said(table, find_rule(plain_view(table.data), 0, wrap64(pc)), known)


def _said(table: CompactTable, offset: int, known: dict[int, object]) -> object:
    """The rule record at `offset` as `_expected` puts it."""
    if offset not in known:
        text = "nothing" if offset < 0 else describe_rule(plain_view(table.data), offset)
        words = text.split("  ")
        if words[0].startswith("CFA="):
            signal = words[-1] == "signal frame"
            registers = dict(word.split("=", 1) for word in words[1 : len(words) - signal])
            known[offset] = (words[0].removeprefix("CFA="), registers, signal)
        else:
            known[offset] = text
    return known[offset]


def _dump(kernel: KernelPackage, file: Path, target: Path) -> list[re.Match[str]]:
    kernel.dump_orc(file, target)
    entries = [_OLD.match(line) or _NEW.match(line) for line in target.read_text().splitlines()]
    assert all(entries), [
        line for line in target.read_text().splitlines() if not (_OLD.match(line) or _NEW.match(line))
    ]
    return [entry for entry in entries if entry is not None]


def test_whole_kernel(kernel, tmp_path):
    """Every entry at its first and last byte, whatever the release; and `verify` says the same."""
    image = open_image(kernel.vmlinuz)
    release = re.match(r"(\d+)\.(\d+)", kernel.build)
    assert release is not None and kernel_release(image) == (int(release[1]), int(release[2]))
    vmlinux = tmp_path / "vmlinux"
    image.data.tofile(vmlinux)
    # objtool reads nothing without a symbol table.
    subprocess.run(["objcopy", "--add-symbol", "one=0xffffffff81000000,global", str(vmlinux)], check=True)
    table = build_table(image)
    entries = _dump(kernel, vmlinux, tmp_path / "dump")
    assert len(entries) > 200_000
    starts = np.array([int(entry["at"], 16) for entry in entries], dtype=np.uint64)
    ends = np.append(starts[1:], np.uint64(table.text_range[1]))
    (line,) = format_rows(table, int(starts[7]))
    assert f"{int(starts[7]):#x}" in line
    first, last = table_offsets(table, starts), table_offsets(table, ends - np.uint64(1))
    # Of these ORC tells nothing right; what the table has is compared with their code in test_kernel_merge.py.
    thunks = [(begin, behind) for begin, _, behind in retpoline_thunks(image)]
    known: dict[int, object] = {}
    pairs: set[tuple[int, str]] = set()
    kinds = set()
    for entry, start, end, offsets in zip(
        entries, starts.tolist(), ends.tolist(), zip(first.tolist(), last.tolist(), strict=True), strict=True
    ):
        if start == end:
            continue  # of two entries at one address the kernel takes the later one
        kinds.add(entry["type"] + entry["sp"][0])
        said = entry[0].partition(":")[2]
        for place, offset in zip((start, end - 1), offsets, strict=True):
            if (offset, said) not in pairs and not any(begin <= place < behind for begin, behind in thunks):
                assert _said(table, offset, known) == _expected(entry), (hex(start), entry[0])
                pairs.add((offset, said))
    assert len(kinds) >= 5, kinds
    found = verify_table(table, image, None, tmp_path / "dump")
    assert found.orc_checked and found.differences == [] and found.sources["ORC alone"] > 400_000


def test_modules(kernel, tmp_path):
    compared = 0
    chosen = kernel.modules[:: max(len(kernel.modules) // 60, 1)]
    assert len(chosen) >= 30
    for path in chosen:
        image = open_image(path)
        if not image.has(".orc_unwind"):
            continue
        plain = tmp_path / "module.ko"
        image.data.tofile(plain)
        table = build_table(image)
        bases = link_view(image).addresses
        ends = dict(link_view(image).code_ranges)
        places: dict[int, str | tuple[str, dict[str, str], bool]] = {}
        for entry in _dump(kernel, plain, tmp_path / "dump"):
            section, offset = entry["at"].rsplit("+", 1)
            address = bases[image.sections[section].index] + int(offset, 16)
            expected = _expected(entry)
            # A terminator of one section may stand where the next one begins.
            if expected != "nothing" or address not in places:
                places[address] = expected
        known: dict[int, object] = {}
        for address, expected in places.items():
            if any(low <= address < high for low, high in ends.items()):
                assert _actual(table, address, known) == expected, (path, hex(address))
                compared += 1
        found = verify_table(table, image, None, tmp_path / "dump")
        assert found.orc_checked and found.differences == []
    assert compared > 2000


def test_verify_finds_what_objtool_says_otherwise(one_kernel, tmp_path):
    image = open_image(next(path for path in one_kernel.modules if path.stem == "kvm"))
    plain, dump = tmp_path / "module.ko", tmp_path / "dump"
    image.data.tofile(plain)
    _dump(one_kernel, plain, dump)
    table = build_table(image)
    lines = dump.read_text().splitlines()
    changed = next(index for index, line in enumerate(lines) if line.startswith(".text+") and "sp:sp+16 " in line)
    lines[changed] = lines[changed].replace("sp:sp+16 ", "sp:sp+24 ")
    dump.write_text("\n".join(lines))
    first, following = (
        link_view(image).addresses[image.sections[".text"].index]
        + int(line.partition(":")[0].removeprefix(".text+"), 16)
        for line in lines[changed : changed + 2]
    )
    told = verify_table(table, image, None, dump).differences
    assert {each.address for each in told} >= {first, following - 1}
    assert all(first <= each.address < following and "rsp+24" in each.expected for each in told)


def test_verify_command_says_what_was_not_checked(one_kernel, tmp_path):
    module = one_kernel.modules[0]
    command = [sys.executable, "-c", "from ptap.cli.main import main; main()", "tables", "verify", str(module)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "ORC itself was not checked" in done.stdout
    (tmp_path / "text").write_text("no dump\n")
    done = subprocess.run([*command, "--orc-dump", str(tmp_path / "text")], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "objtool --dump=orc" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no ORC entries"),
        ("ffffffff81000000: nothing", "no line of"),
        ("elsewhere+10: sp:sp+8 bp:(und) type:call end:0", "no place in the file"),
        ("ffffffff81000000: sp:xx+8 bp:(und) type:call end:0", "not known"),
        ("ffffffff81000000: sp:sp+8 bp:(und) type:other end:0", "not known"),
        (
            "ffffffff81000010: sp:sp+8 bp:(und) type:call end:0\nffffffff81000000: sp:sp+8 bp:(und) type:call end:0",
            "remove .rela.orc_unwind_ip",
        ),
    ],
)
def test_what_is_no_dump_of_the_file_is_refused(one_kernel, tmp_path, text, message):
    (tmp_path / "dump").write_text(text)
    with pytest.raises(ObjtoolError, match=message):
        read_objtool_dump(tmp_path / "dump", open_image(one_kernel.vmlinuz))


# --- layouts and damage, on ORC made by the assembler


def _entry_bits(style: str, sp: int, bp: int, kind: int, signal: bool, end: bool) -> int:
    """kind: 0 call, 1 regs, 2 partial. By the kernel's definitions of each; registers have 6.4's numbers."""
    if style == "7.1":
        sp, bp = ([0, 8, 2, 5, 4, 3, 6, 7, 10, 9, 1][number] for number in (sp, bp))
    bits = sp | bp << 4
    if style == "5.10":
        return bits | kind << 8 | end << 10
    if style == "6.3":
        return bits | kind << 8 | signal << 10 | end << 11
    type_ = 1 if end else (0 if sp == 0 else kind + 2)
    return bits | type_ << 8 | signal << 11


_ENTRIES = [
    # offset in .text, sp_offset, bp_offset, sp, bp, kind, signal, end
    (0x00, 8, 0, 5, 0, 0, False, False),
    (0x10, 16, -16, 5, 1, 0, False, False),
    (0x20, 0, 0, 5, 0, 1, True, False),
    (0x30, 8, 0, 5, 0, 2, True, False),
    (0x40, 0, 0, 0, 0, 0, False, True),
    (0x50, 16, -24, 4, 1, 0, False, False),
    (0x60, -8, 0, 8, 0, 0, False, False),
    (0x70, 16, 0, 9, 0, 0, False, False),
    (0x80, 0, 0, 6, 4, 0, False, False),
    (0x90, 0, 0, 0, 0, 0, False, False),
]
_HASHES = {
    "6.3": "db84aed4103b31dd51e017f8f79783ca985c2c51",
    "6.4": "fe5d32bf581bd63b2ca9a5c65ba5a625eab3fe24",
    "7.1": "137c36ad7627c4dd55932176bb0ecdbd5041fc82",
}


def _assembled(
    tmp_path: Path,
    style: str,
    *,
    release: str | None = None,
    digest: str | None = None,
    entries=_ENTRIES,
    cfi: str = "",
) -> ElfImage:
    lines = [".cfi_sections .debug_frame", ".text", "start:", cfi or ".fill 0xa0, 1, 0x90"]
    lines += ['.section .orc_unwind_ip,"a"', *(f".long start + {entry[0]} - ." for entry in entries)]
    lines += ['.section .orc_unwind,"a"']
    for _, sp_offset, bp_offset, sp, bp, kind, signal, end in entries:
        lines += [f".short {sp_offset}, {bp_offset}, {_entry_bits(style, sp, bp, kind, signal, end)}"]
    if release:
        lines += ['.section .modinfo,"a"', f'.asciz "license=GPL", "vermagic={release} SMP"']
    if digest:
        lines += ['.section .orc_header,"a"', *(f".byte {byte}" for byte in bytes.fromhex(digest))]
    target = tmp_path / "orc.o"
    command = ["gcc", "-c", "-x", "assembler", "-o", str(target), "-"]
    subprocess.run(command, input="\n".join(lines) + "\n", text=True, check=True)
    return ElfImage.open(target)


def _texts(table: CompactTable) -> list[str]:
    view = plain_view(table.data)
    found = [find_rule(view, 0, entry[0] + 4) for entry in _ENTRIES]
    return ["nothing" if offset < 0 else describe_rule(view, offset) for offset in found]


def test_every_layout_says_the_same(tmp_path):
    told = [
        _texts(build_table(_assembled(tmp_path, style, **where)))
        for style, where in (
            ("5.10", {"release": "5.15.0-1-amd64"}),
            ("5.10", {"release": "6.2.16"}),
            ("6.3", {"release": "6.3.1"}),
            ("6.3", {"release": "5.14.0-503.el9", "digest": _HASHES["6.3"]}),
            ("6.4", {"release": "6.4.0"}),
            ("6.4", {"digest": _HASHES["6.4"]}),
            ("6.4", {"release": "5.14.0-503.el9", "digest": _HASHES["6.4"]}),
            ("6.4", {"release": "7.0.13"}),
            ("7.1", {"release": "7.1.0"}),
            ("7.1", {"digest": _HASHES["7.1"]}),
        )
    ]
    assert all(each == told[0] for each in told)
    call, saved, regs, partial, end, framed, deref, switched, r10, nothing = told[0]
    assert call.startswith("CFA=rsp+8  rbx=unknown") and "signal" not in call
    assert "rbp=[CFA-16]" in saved and framed.startswith("CFA=rbp+16")
    assert regs.startswith("CFA=rsp  rax=[CFA+80]") and "r15=[CFA]" in regs and regs.endswith("signal frame")
    assert partial.startswith("CFA=rsp+8") and "ra=[CFA]" in partial and "rsp=[CFA+24]" in partial
    assert (end, nothing) == ("outermost frame", "nothing")
    assert deref.startswith("CFA=*(rbp-8)  ") and switched.startswith("CFA=*(rsp)+16  ")
    assert r10.startswith("CFA=r10  ") and "rbp=[(rbp)]" in r10


def test_frame_at_rax(tmp_path):
    entries = [(0, 16, 0, 10, 0, 0, False, False)]
    table = build_table(_assembled(tmp_path, "7.1", release="7.1.0", entries=entries))
    assert describe_rule(plain_view(table.data), find_rule(plain_view(table.data), 0, 4)).startswith("CFA=rax+16  ")


def test_stack_switches_before_5_12_are_not_guessed(tmp_path):
    texts = _texts(build_table(_assembled(tmp_path, "5.10", release="5.10.0-28-amd64")))
    assert texts[7] == "rule does not fit the table" and texts[6].startswith("CFA=*(rbp-8)")


def test_layouts_that_cannot_be_known_are_refused(tmp_path):
    for style, where, message in (
        ("6.4", {"digest": "00" * 20}, "not known"),
        ("6.4", {}, "says no release"),
        ("5.10", {"release": "4.19.0"}, "from 5.10 on"),
        ("6.4", {"release": "5.15.0"}, "not sound"),
        ("6.3", {"release": "6.1.0"}, "not sound"),
        ("6.4", {"release": "6.4.0", "entries": [(0, 8, 0, 12, 0, 0, False, False)]}, "not sound"),
        ("6.4", {"release": "6.4.0", "entries": [(0, 8, 0, 10, 0, 0, False, False)]}, "not sound"),  # rax is of 7.1
    ):
        with pytest.raises(ElfError, match=message):
            build_table(_assembled(tmp_path, style, **where))


def test_sections_that_do_not_belong_together(tmp_path):
    image = _assembled(tmp_path, "6.4", digest=_HASHES["6.4"])
    data = bytearray(image.data.tobytes())
    (header_offset,) = struct.unpack_from("<Q", data, 40)
    place = header_offset + 64 * image.sections[".orc_unwind"].index + 32
    struct.pack_into("<Q", data, place, image.sections[".orc_unwind"].size - 6)
    with pytest.raises(ElfError, match="do not belong together"):
        build_table(ElfImage.from_bytes(bytes(data), "cut"))


def test_unsorted_entries(tmp_path):
    """A module's entries are sorted when it is loaded; of two at one address the one that says something holds."""
    shuffled = [_ENTRIES[index] for index in (3, 9, 0, 2, 1, 8, 7, 6, 5, 4)]
    shuffled.insert(3, (0x10, 0, 0, 0, 0, 0, False, False))
    wanted = _texts(build_table(_assembled(tmp_path, "6.4", digest=_HASHES["6.4"])))
    assert _texts(build_table(_assembled(tmp_path, "6.4", digest=_HASHES["6.4"], entries=shuffled))) == wanted


# --- ORC with DWARF

_FUNCTION = """
.cfi_startproc
.fill 0x10, 1, 0x90
push %rbx
.cfi_def_cfa_offset 16
.cfi_offset %rbx, -16
.fill 0x1f, 1, 0x90
.cfi_def_cfa_offset 24
.cfi_offset %r12, -24
.cfi_register %r13, %rax
.fill 0x10, 1, 0x90
.cfi_undefined %r14
.fill 0x60, 1, 0x90
.cfi_endproc
"""


def test_dwarf_adds_the_registers_that_orc_does_not_know(tmp_path):
    entries = [
        (0x00, 8, 0, 5, 0, 0, False, False),
        (0x11, 16, 0, 5, 0, 0, False, False),
        (0x20, 64, -32, 5, 1, 0, False, False),  # DWARF does not know of a push in between
        (0x30, 32, 0, 9, 0, 0, False, False),  # nor of a stack switch
        (0x40, 24, 0, 5, 0, 0, False, False),
        (0x60, 0, 0, 5, 0, 1, True, False),
        (0x70, 0, 0, 0, 0, 0, False, True),
        (0x80, 0, 0, 0, 0, 0, False, False),
    ]
    image = _assembled(tmp_path, "6.4", digest=_HASHES["6.4"], entries=entries, cfi=_FUNCTION)
    table = build_table(image)
    view = plain_view(table.data)

    def at(pc: int) -> str:
        return describe_rule(view, find_rule(view, 0, pc))

    assert at(0x08) == "CFA=rsp+8  ra=[CFA-8]"
    assert at(0x18) == "CFA=rsp+16  rbx=[CFA-16]  ra=[CFA-8]"
    assert at(0x28) == "CFA=rsp+64  rbx=[CFA-16]  rbp=[CFA-32]  ra=[CFA-8]"
    saved = "rbx=[CFA-16]  r12=[CFA-24]  r13=rax"
    assert at(0x38) == f"CFA=*(rsp)+32  {saved}  ra=[CFA-8]"
    assert at(0x48) == f"CFA=rsp+24  {saved}  r14=unknown  ra=[CFA-8]"
    assert at(0x68).startswith("CFA=rsp  rax=[CFA+80]") and at(0x68).endswith("signal frame")
    assert at(0x78) == "outermost frame"
    assert at(0x88) == at(0x48)  # where ORC says nothing, DWARF holds
    assert layout.CFA_KIND_INVALID == 0 and find_rule(view, 0, 0xA0) == -1


def test_orc_words_are_read_in_place(one_kernel):
    """The first and last rows of .orc_unwind_ip, by the definition: each word is relative to itself."""
    image = open_image(one_kernel.vmlinuz)
    section = image.sections[".orc_unwind_ip"]
    words = image.section_data(".orc_unwind_ip").view("<i4")
    table = build_table(image)
    first = section.address + int(words[0])
    assert first <= table.text_range[0]
    assert np.all(np.diff(4 * np.arange(len(words)) + words.astype(np.int64)) >= 0)
