"""Every call frame instruction, augmentation and pointer encoding, on sections made by hand.

The oracle is readelf where it decodes the case, else the DWARF text that the comment names.
"""

from __future__ import annotations

import numpy as np
import pytest
from cfi_writer import instruction as i
from cfi_writer.encoded_pointer import PointerBases
from cfi_writer.frame_section_writer import Cie, FrameSectionWriter
from cfi_writer.leb128 import sleb, uleb

from cfi_tables import aarch64, layout, x86_64
from cfi_tables.rule_record import Rule
from cfi_tables.section_rows import FrameSection, decode_section

BASE = 0x400000
START = 0x1000
END = 0x2000

K = layout.RegisterKind
REGISTER_OFFSET = layout.CFA_KIND_REGISTER_OFFSET

INITIAL = [i.def_cfa(7, 8), i.offset(16, 1)]  # CFA=rsp+8, ra at CFA-8
BASES = PointerBases(text=0x500, data=0x700)


def eh_frame(*program: bytes | i.SetLoc, data=None, encoding=0x1B, start=START, length=END - START, **options) -> bytes:
    """One CIE and one FDE; `data` stands for the whole augmentation data."""
    options = {"augmentation": "zR", "program": INITIAL, "encoding": encoding, "augmentation_data": data} | options
    cie = Cie(**options)
    writer = FrameSectionWriter(True, BASE, BASES)
    writer.fde(cie, writer.cie(cie), start, length, program)
    writer.terminator()
    return bytes(writer.data)


def debug_frame(*program: bytes | i.SetLoc, version=4, wide=False) -> bytes:
    cie = Cie(INITIAL, version=version, wide=wide)
    writer = FrameSectionWriter(False, BASE, BASES)
    writer.fde(cie, writer.cie(cie), START, END - START, program)
    return bytes(writer.data)


def decode(data: bytes, name: str = ".eh_frame", ranges=((0, 1 << 32),), compiled=False,
           architecture=x86_64.ARCHITECTURE):  # fmt: skip
    section = FrameSection(
        name=name, data=np.frombuffer(data, dtype=np.uint8), address=BASE, text_base=0x500, data_base=0x700,
        ranges=list(ranges), architecture=architecture,
    )  # fmt: skip
    rows, rules, problems = decode_section(section, use_compiled=compiled)
    return [(a, rules[r]) for a, r in zip(rows.addresses.tolist(), rows.rules.tolist(), strict=True)], problems


def rule_after(program: bytes, **options) -> Rule:
    """The rule of the row that holds at START + 1 up to the end."""
    rows, problems = decode(eh_frame(b"\x41" + program, **options))
    assert not problems, problems
    assert rows[0] == (START, PLAIN)
    assert rows[-1][0] == END and rows[-1][1].cfa_kind == layout.CFA_KIND_INVALID
    assert len(rows) <= 3
    return rows[-2][1]


RA = (16, K.AT_CFA, -8)
PLAIN = Rule(REGISTER_OFFSET, 7, 0, 8, 0, (RA,))
EXPRESSION = b"\x77\x10\x06\x23\x08\x1c"


@pytest.mark.parametrize(
    ("program", "rule"),
    [
        (b"", PLAIN),
        (b"\x0e" + uleb(300), Rule(REGISTER_OFFSET, 7, 0, 300, 0, (RA,))),
        (b"\x0d\x06", Rule(REGISTER_OFFSET, 6, 0, 8, 0, (RA,))),
        (b"\x0c\x06" + uleb(16), Rule(REGISTER_OFFSET, 6, 0, 16, 0, (RA,))),
        # def_cfa_sf, def_cfa_offset_sf: factored by the data alignment (DWARF 5 §6.4.2.2)
        (b"\x12\x06" + sleb(-3), Rule(REGISTER_OFFSET, 6, 0, 24, 0, (RA,))),
        (b"\x13" + sleb(5), Rule(REGISTER_OFFSET, 7, 0, -40, 0, (RA,))),
        (b"\x83\x02", Rule(REGISTER_OFFSET, 7, 0, 8, 0, ((3, K.AT_CFA, -16), RA))),
        (b"\x05\x0c" + uleb(20), Rule(REGISTER_OFFSET, 7, 0, 8, 0, ((12, K.AT_CFA, -160), RA))),
        (b"\x11\x0c" + sleb(-2), Rule(REGISTER_OFFSET, 7, 0, 8, 0, ((12, K.AT_CFA, 16), RA))),
        (b"\x2f\x0c" + uleb(2), Rule(REGISTER_OFFSET, 7, 0, 8, 0, ((12, K.AT_CFA, 16), RA))),
        (b"\x14\x07" + uleb(2), Rule(REGISTER_OFFSET, 7, 0, 8, 0, ((7, K.CFA_PLUS, -16), RA))),
        (b"\x15\x07" + sleb(-2), Rule(REGISTER_OFFSET, 7, 0, 8, 0, ((7, K.CFA_PLUS, 16), RA))),
        (b"\x09\x10\x00", Rule(REGISTER_OFFSET, 7, 0, 8, 0, ((16, K.IN_REGISTER, 0),))),
        (b"\x07\x03", Rule(REGISTER_OFFSET, 7, 0, 8, 0, ((3, K.UNDEFINED, 0), RA))),
        (b"\x07\x00", PLAIN),  # rax is unknown without being told so
        (b"\x08\x03", PLAIN),  # rbx is unchanged without being told so
        (b"\x08\x00", Rule(REGISTER_OFFSET, 7, 0, 8, 0, ((0, K.SAME, 0), RA))),
        (b"\x07\x10", Rule(layout.CFA_KIND_END)),
        (b"\x83\x02\xc3", PLAIN),
        (b"\x83\x02\x06\x03", PLAIN),
        (b"\x0a\x83\x02\x0e\x40\x0b", PLAIN),
        (b"\x0a\x0e\x10\x0a\x0e\x20\x0b\x0b", PLAIN),
        (b"\x2e\x10", PLAIN),
        (b"\x91\x02", PLAIN),  # r17, xmm0: no register of the table
        (b"\x0f\x06" + EXPRESSION, Rule(layout.CFA_KIND_EXPRESSION, 0, 0, EXPRESSION, 0, (RA,))),
        (b"\x0f\x03\x76\x78\x06", Rule(layout.CFA_KIND_DEREF, 6, 0, -8, 0, (RA,))),
        (b"\x0f\x05\x76\x78\x06\x23\x08", Rule(layout.CFA_KIND_DEREF, 6, 0, -8, 8, (RA,))),
        (b"\x10\x06\x02\x76\x00", Rule(REGISTER_OFFSET, 7, 0, 8, 0, ((6, K.EXPRESSION, b"\x76\x00"), RA))),
        (b"\x16\x06\x02\x76\x00", Rule(REGISTER_OFFSET, 7, 0, 8, 0, ((6, K.VAL_EXPRESSION, b"\x76\x00"), RA))),
        (b"\x0e" + uleb(1 << 31), Rule(layout.CFA_KIND_OVERFLOW)),
        (b"\x05\x03" + uleb(1 << 29), Rule(layout.CFA_KIND_OVERFLOW)),
        (b"\x05\x03" + uleb(1 << 50), Rule(layout.CFA_KIND_OVERFLOW)),
        (b"\x0d\x20", Rule(layout.CFA_KIND_OVERFLOW)),
    ],
)
def test_instruction(program, rule):
    assert rule_after(program) == rule


def advanced(program: bytes, **options) -> int:
    rows, problems = decode(eh_frame(program, b"\x0e\x10", **options))
    assert not problems
    assert rows[0][1] == PLAIN
    assert rows[1][1].cfa_a == 16
    return rows[1][0] - START


def test_advance():
    assert advanced(b"\x45") == 5
    assert advanced(b"\x45", code_alignment=4) == 20
    assert advanced(b"\x02\xf0") == 0xF0
    assert advanced(b"\x03\x02\x01") == 0x102
    assert advanced(b"\x04\x02\x01\x00\x00") == 0x102
    assert advanced(b"\x41\x41\x41") == 3
    rows, problems = decode(eh_frame(i.SetLoc(START + 77), b"\x0e\x10"))
    assert not problems
    assert [address for address, _ in rows] == [START, START + 77, END]


def test_row_behind_the_end_is_cut():
    rows, problems = decode(eh_frame(b"\x0e\x10\x03\xff\xff\x0e\x20"))
    assert not problems
    assert [(a, r.cfa_a) for a, r in rows] == [(START, 16), (END, 0)]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (b"\x3f", layout.FrameProblem.BAD_INSTRUCTION),
        (b"\x1d", layout.FrameProblem.BAD_INSTRUCTION),
        (b"\x0b", layout.FrameProblem.STATE_STACK),
        (b"\x0a" * 40, layout.FrameProblem.STATE_STACK),
        (b"\x0f" + uleb(1000), layout.FrameProblem.BAD_INSTRUCTION),
        (b"\x0e" + b"\xff" * 30, layout.FrameProblem.BAD_INSTRUCTION),
        (i.SetLoc(START - 1), layout.FrameProblem.BACKWARD),
    ],
)
def test_damaged_program_is_left_out(program, reason):
    good = eh_frame(b"")[:-4]
    rows, problems = decode(eh_frame(program))
    assert [problem.reason for problem in problems] == [reason]
    assert problems[0].section == ".eh_frame" and problems[0].offset > 0
    assert rows == []
    # and the next entries are decoded all the same
    joined, problems = decode(good + eh_frame(b"\x3f", start=0x8000), ranges=((0, 1 << 32),))
    assert [address for address, _ in joined] == [START, END]
    assert len(problems) == 1


@pytest.mark.parametrize("version", [1, 3, 4])
@pytest.mark.parametrize("wide", [False, True])
def test_versions_and_formats(version, wide):
    rows, problems = decode(eh_frame(b"\x45\x0e\x10", version=version, wide=wide))
    assert not problems
    assert [address for address, _ in rows] == [START, START + 5, END]
    frame, problems = decode(debug_frame(b"\x45\x0e\x10", version=version, wide=wide), ".debug_frame")
    assert not problems
    assert frame == rows


def test_unknown_versions_and_augmentations():
    for options, reason in (
        ({"version": 2}, layout.FrameProblem.UNKNOWN_VERSION),
        ({"augmentation": "zQ", "data": b""}, layout.FrameProblem.UNKNOWN_AUGMENTATION),
        ({"augmentation": "eh"}, layout.FrameProblem.UNKNOWN_AUGMENTATION),
        ({"return_column": 30}, layout.FrameProblem.RETURN_COLUMN),
        ({"program": [b"\x3f"]}, layout.FrameProblem.BAD_CIE),
        ({"program": [b"\x41"]}, layout.FrameProblem.BAD_CIE),
        ({"length": 0}, layout.FrameProblem.BAD_RANGE),
    ):
        rows, problems = decode(eh_frame(b"", **options))
        assert rows == []
        assert [problem.reason for problem in problems] == [reason], options


def test_augmentation_letters():
    personality = {"personality": (0x9B, 0x1234), "lsda_encoding": 0x1B}
    rows, problems = decode(eh_frame(b"", augmentation="zPLR", **personality))
    assert not problems and rows[0] == (START, PLAIN)
    # an aligned personality pointer: padding depends on the address (LSB Core §10.5.1)
    rows, problems = decode(eh_frame(b"", augmentation="zPRSB", personality=(0x50, 0)))
    assert not problems
    assert rows[0][1] == Rule(REGISTER_OFFSET, 7, layout.RULE_FLAG_SIGNAL_FRAME, 8, 0, (RA,))


@pytest.mark.parametrize(
    "encoding", [0x00, 0x01, 0x02, 0x03, 0x04, 0x09, 0x0A, 0x0B, 0x0C, 0x10, 0x1B, 0x1C, 0x2B, 0x3B, 0x50]
)
def test_pointer_encodings(encoding):
    rows, problems = decode(eh_frame(b"\x45\x0e\x10", encoding=encoding))
    assert not problems
    assert [address for address, _ in rows] == [START, START + 5, END]


@pytest.mark.parametrize("encoding", [0x9B, 0x4B, 0x6B, 0x05, 0x0F])
def test_pointers_that_cannot_be_known(encoding):
    rows, problems = decode(eh_frame(b"", data=bytes([encoding])))
    assert rows == []
    assert [problem.reason for problem in problems] == [layout.FrameProblem.BAD_POINTER]


def test_discarded_code_is_left_out():
    rows, problems = decode(debug_frame(b""), ".debug_frame", ranges=((0x9000, 0xA000),))
    assert rows == []
    assert [(problem.reason, problem.start) for problem in problems] == [(layout.FrameProblem.DEAD, START)]


def _many(*parts: tuple[int, int, int]) -> bytes:
    """A .debug_frame whose FDEs (start, end, CFA offset) share a CIE."""
    cie = Cie(INITIAL, version=4)
    writer = FrameSectionWriter(False)
    offset = writer.cie(cie)
    for start, end, cfa in parts:
        writer.fde(cie, offset, start, end - start, [i.def_cfa_offset(cfa)])
    return bytes(writer.data)


def test_overlaps_later_start_holds_to_its_end():
    data = _many((100, 200, 16), (140, 160, 32), (150, 155, 48), (190, 250, 64), (300, 400, 8), (300, 310, 24))
    rows, problems = decode(data, ".debug_frame")
    assert not problems
    assert [(address, rule.cfa_a) for address, rule in rows] == [
        (100, 16), (140, 32), (150, 48), (155, 32), (160, 16), (190, 64), (250, 0), (300, 24), (310, 8), (400, 0),
    ]  # fmt: skip


def test_terminators_between_parts_do_not_end_the_section():
    first = eh_frame(b"")
    # the second part's pointers are relative to where it lands
    second = eh_frame(b"\x0e\x10", start=0x3000 - len(first), length=0x100)
    rows, problems = decode(first + second)
    assert not problems
    assert [address for address, _ in rows] == [START, END, 0x3000, 0x3100]


def test_truncation_is_told():
    data = eh_frame(b"")[:-6]
    rows, problems = decode(data)
    assert rows == []
    assert [problem.reason for problem in problems] == [layout.FrameProblem.TRUNCATED]


SIGNED = layout.RULE_FLAG_RETURN_ADDRESS_SIGNED


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("instruction", "flags"),
    [
        # AARCH64_negate_ra_state (DWARF for the Arm 64-bit Architecture §4.4), negate_ra_state_with_pc
        (b"\x2d", SIGNED), (b"\x2d\x2d", 0), (b"\x2c", SIGNED), (b"\x2c\x2c", 0),
        # AARCH64_set_ra_state: ULEB128 state, SLEB128 offset of the signing instruction
        (b"\x2b" + uleb(0) + sleb(-4), 0), (b"\x2b" + uleb(1) + sleb(0), SIGNED),
        (b"\x2b" + uleb(2) + sleb(-400), SIGNED), (b"\x2d\x2b" + uleb(0) + sleb(0), 0),
        (b"\x2b" + uleb(1) + sleb(0) + b"\x2d", 0),
        (b"\x2b" + uleb(2) + sleb(8) + b"\x2b" + uleb(1) + sleb(-8), SIGNED),
        (b"\x2b" + uleb(1) + sleb(0) + b"\x0a\x2d\x0b", SIGNED),
    ],
)  # fmt: skip
def test_return_address_signing(instruction, flags, compiled):
    initial = b"\x0c" + uleb(31) + uleb(0)  # CFA=sp
    data = eh_frame(b"\x41" + instruction, program=[initial], code_alignment=4, return_column=30)
    rows, problems = decode(data, compiled=compiled, architecture=aarch64.ARCHITECTURE)
    assert not problems
    assert rows[0] == (START, Rule(REGISTER_OFFSET, 31))
    assert rows[-2][1] == Rule(REGISTER_OFFSET, 31, flags)


@pytest.mark.parametrize(
    ("instruction", "architecture"),
    [
        (b"\x2b" + uleb(3) + sleb(0), aarch64.ARCHITECTURE),  # no such state
        (b"\x2b\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00", aarch64.ARCHITECTURE),
        (b"\x2b", aarch64.ARCHITECTURE),
        (b"\x2b" + uleb(0) + sleb(0), x86_64.ARCHITECTURE), (b"\x2c", x86_64.ARCHITECTURE),
    ],
)  # fmt: skip
def test_signing_that_is_not_known_leaves_the_function_out(instruction, architecture):
    data = bytearray(eh_frame(b"\x41" + bytes(24), program=[b"\x0c\x07\x08"], return_column=architecture.return_column))
    # At the very end of the program, so that one that is cut has nothing behind it.
    data[len(data) - 4 - len(instruction) : -4] = instruction
    rows, problems = decode(bytes(data), architecture=architecture)
    assert rows == []
    assert [problem.reason for problem in problems] == [layout.FrameProblem.BAD_INSTRUCTION]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_register_in_a_longer_form_is_read_again_each_time(compiled):
    """DWARF 5 §7.6 lets a LEB128 be filled up: here register 6 in two bytes, and another one of the same low bits."""
    back = b"\x41\x0c\x07\x08"
    rows, problems = decode(
        eh_frame(b"\x41\x0c\x86\x00\x10", back, b"\x41\x0c\x86\x00\x20", back, b"\x41\x0c\x86\x01\x20"),
        compiled=compiled,
    )
    assert not problems
    found = [(rule.cfa_kind, rule.cfa_register, rule.cfa_a) for _, rule in rows]
    plain = (REGISTER_OFFSET, 7, 8)
    assert found[:5] == [plain, (REGISTER_OFFSET, 6, 0x10), plain, (REGISTER_OFFSET, 6, 0x20), plain]
    assert found[5][0] == layout.CFA_KIND_OVERFLOW  # register 134, which no table holds
