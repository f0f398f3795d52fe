"""Strategies for call frame sections: valid programs of every instruction, in every form that a section can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cfi_writer import instruction
from cfi_writer.encoded_pointer import ABSOLUTE, ALIGNED, DATA_RELATIVE, FORMS, PC_RELATIVE, TEXT_RELATIVE, PointerBases
from cfi_writer.frame_section_writer import Cie, FrameSectionWriter
from cfi_writer.instruction import SetLoc
from cfi_writer.leb128 import sleb, uleb
from hypothesis import strategies as st
from oracles.call_frame_interpreter import Setting

from cfi_tables import aarch64, i386, x86_64
from cfi_tables.architecture import Architecture

ARCHITECTURES = (x86_64.ARCHITECTURE, i386.ARCHITECTURE, aarch64.ARCHITECTURE)

# Every pointer form and base reaches the code from the section: both lie low, the section first.
SECTION_ADDRESS = 0x340
TEXT_BASE, DATA_BASE = 0x500, 0x700
CODE = (0x4000, 0x7000)
_FIRST_STARTS = st.integers(CODE[0], CODE[0] + 600)


@dataclass(frozen=True)
class GeneratedSection:
    """A section's bytes and what they belong to."""

    architecture: Architecture
    is_eh: bool
    data: bytes
    setting: Setting

    @property
    def name(self) -> str:
        return ".eh_frame" if self.is_eh else ".debug_frame"


@st.composite
def sections(draw: Any, simple: bool = False) -> GeneratedSection:
    """`simple`: only what pyelftools reads as the standards have it."""
    architecture = ARCHITECTURES[0] if simple else draw(st.sampled_from(ARCHITECTURES))
    is_eh = draw(st.booleans())
    bases = PointerBases(architecture.address_size, TEXT_BASE, DATA_BASE)
    writer = FrameSectionWriter(is_eh, SECTION_ADDRESS, bases)
    for _ in range(draw(st.integers(1, 2))):
        cie = draw(_cies(architecture, is_eh, simple))
        offset = writer.cie(cie)
        for _ in range(draw(st.integers(0, 4))):
            start, length = draw(_FIRST_STARTS), draw(st.integers(1, 300) | st.integers(0x1000, 0x2000))
            program = draw(_programs(architecture, cie, start, length, simple))
            lsda = b"" if simple or "L" not in cie.augmentation else draw(st.binary(max_size=8))
            writer.fde(cie, offset, start, length, program, lsda)
        if is_eh and not simple and draw(st.booleans()):
            writer.terminator()
    setting = Setting(
        is_eh, SECTION_ADDRESS, architecture.address_size, TEXT_BASE, DATA_BASE, len(architecture.register_names),
        architecture.return_column, architecture.name == "aarch64",
    )  # fmt: skip
    return GeneratedSection(architecture, is_eh, bytes(writer.data), setting)


@st.composite
def _cies(draw: Any, architecture: Architecture, is_eh: bool, simple: bool) -> Cie:
    letters = draw(st.permutations("RPLS" if architecture.name != "aarch64" else "RPLSBG"))
    augmentation = "z" + "".join(letters[: draw(st.integers(0, len(letters)))])
    encodings = st.sampled_from([ABSOLUTE, PC_RELATIVE, TEXT_RELATIVE, DATA_RELATIVE]).flatmap(
        lambda application: st.sampled_from(FORMS).map(lambda form: application | form)
    ) | st.just(ALIGNED)
    if simple:
        augmentation = "zR" if is_eh else ""
        encodings = st.sampled_from([PC_RELATIVE | form for form in FORMS if form != 0x08])
    elif not is_eh and draw(st.booleans()):
        augmentation = ""
    column = architecture.return_column
    if not simple and draw(st.integers(0, 9)) == 0:
        column = draw(st.integers(0, len(architecture.register_names) - 1))
    code_alignment = 1 if simple else draw(st.sampled_from([1, 1, 2, 4]))
    data_alignment = draw(st.sampled_from([-8, -8, -4, 4, 1, -1, 3]))
    program: list[bytes | SetLoc] = []
    if simple or draw(st.integers(0, 9)):
        program.append(instruction.def_cfa(draw(_registers(architecture)), draw(st.integers(0, 64))))
    if simple:  # else pyelftools leaves out a last row whose CFA is an expression
        program.append(instruction.offset(column, 1))
    for _ in range(draw(st.integers(0, 3))):
        program.append(draw(_register_instructions(architecture, simple, restores=False)))
    return Cie(
        program=program,
        version=draw(st.sampled_from([1] if simple and is_eh else [1, 3, 4])),
        augmentation=augmentation,
        encoding=draw(encodings),
        lsda_encoding=draw(st.sampled_from([0x00, 0x1B, 0xFF])),
        personality=draw(st.sampled_from([(0x00, 0x1234), (0x9B, 0x1234), (0x01, 7), (ALIGNED, 0x99), (0x0A, 3)])),
        code_alignment=code_alignment,
        data_alignment=data_alignment,
        return_column=column,
        wide=not simple and draw(st.booleans()),
    )


def _registers(architecture: Architecture) -> st.SearchStrategy[int]:
    """Mostly registers that a table holds; else vector registers and numbers of several bytes."""
    held = st.integers(0, len(architecture.register_names) - 1)
    return held | held | held | st.integers(0, 63) | st.sampled_from([64, 127, 128, 300, 70000])


_FACTORED = st.integers(0, 40) | st.sampled_from([8191, 65536, 181312, 1 << 19, (1 << 22) - 1, 1 << 30, 1 << 33])
_SIGNED = _FACTORED | _FACTORED.map(lambda value: -value)
_EXPRESSIONS = (
    st.binary(max_size=6)
    | st.builds(
        lambda register, a, b: bytes([0x70 + register]) + sleb(a) + b"\x06" + (b"\x23" + uleb(b) if b else b""),
        st.integers(0, 31), st.sampled_from([0, -8, 16, -32768, 32768]), st.sampled_from([0, 8, 32767, 32768]),
    )
    | st.binary(min_size=120, max_size=140)
)  # fmt: skip


def _register_instructions(architecture: Architecture, simple: bool, restores: bool) -> st.SearchStrategy[bytes]:
    """Instructions that say where a register is."""
    register, low = _registers(architecture), st.integers(0, 63) | st.just(architecture.return_column)
    every = [
        st.builds(instruction.offset, low, _FACTORED),
        st.builds(instruction.offset, low, _FACTORED),
        st.builds(instruction.offset_extended, register, _FACTORED),
        st.builds(instruction.offset_extended_sf, register, _SIGNED),
        st.builds(instruction.val_offset, register, _FACTORED),
        st.builds(instruction.val_offset_sf, register, _SIGNED),
        st.builds(instruction.undefined, register),
        st.builds(instruction.same_value, register),
        st.builds(instruction.in_register, register, register),
        st.builds(instruction.expression, register, _EXPRESSIONS),
        st.builds(instruction.val_expression, register, _EXPRESSIONS),
    ]
    if not simple:
        every.append(st.builds(instruction.gnu_negative_offset_extended, register, _FACTORED))
    if restores:
        every += [st.builds(instruction.restore, low), st.builds(instruction.restore_extended, register)]
    return st.one_of(every)


def _cfa_instructions(architecture: Architecture, simple: bool, by_register: bool) -> st.SearchStrategy[bytes]:
    """Instructions that say what the CFA is; `by_register`: it is a register and an offset already."""
    register = _registers(architecture)
    every = [st.builds(instruction.def_cfa, register, _FACTORED)]
    if not simple:
        every.append(st.builds(instruction.def_cfa_sf, register, _SIGNED))
    if by_register:
        every += [
            st.builds(instruction.def_cfa_register, register),
            st.builds(instruction.def_cfa_offset, _FACTORED),
            st.builds(instruction.def_cfa_offset, _FACTORED),
            st.builds(instruction.def_cfa_offset_sf, _SIGNED),
        ]
    return st.one_of(every)


_LARGEST_DELTA = {instruction.advance_loc: 63, instruction.advance_loc1: 255, instruction.advance_loc2: 0xFFFF,
                  instruction.advance_loc4: 0xFFFFFFFF}  # fmt: skip


@st.composite
def _programs(
    draw: Any, architecture: Architecture, cie: Cie, start: int, length: int, simple: bool
) -> list[bytes | SetLoc]:
    program: list[bytes | SetLoc] = []
    by_register = bool(cie.program) and isinstance(cie.program[0], bytes) and cie.program[0][0] == 0x0C
    remembered: list[bool] = []
    location = start
    for _ in range(draw(st.integers(0, 14))):
        kind = draw(st.sampled_from(["advance"] * 4 + ["register"] * 4 + ["cfa"] * 3 + ["state"] * 2 + ["other"]))
        if kind == "advance":
            advance = draw(st.sampled_from(list(_LARGEST_DELTA)))
            left = (start + length - location) // cie.code_alignment
            # Past the end too: what stands there holds for no code. pyelftools goes on there.
            delta = draw(st.integers(0, min(_LARGEST_DELTA[advance], max(left - 1, 0) if simple else left + 2)))
            location += delta * cie.code_alignment
            program.append(advance(delta))
        elif kind == "register":
            program.append(draw(_register_instructions(architecture, simple, restores=True)))
        elif kind == "cfa":
            if draw(st.integers(0, 5)) == 0:
                program.append(instruction.def_cfa_expression(draw(_EXPRESSIONS)))
                by_register = False
            else:
                program.append(draw(_cfa_instructions(architecture, simple, by_register)))
                by_register = True
        elif kind == "state":
            if remembered and draw(st.booleans()):
                program.append(instruction.RESTORE_STATE)
                by_register = remembered.pop()
            elif len(remembered) < 32:
                program.append(instruction.REMEMBER_STATE)
                remembered.append(by_register)
        elif simple:
            program.append(instruction.NOP)
        elif architecture.name == "aarch64" and draw(st.booleans()):
            program.append(
                draw(
                    st.sampled_from([instruction.AARCH64_NEGATE_RA_STATE, instruction.AARCH64_NEGATE_RA_STATE_WITH_PC])
                )
            )
        elif draw(st.booleans()):
            location = draw(st.integers(location, max(start + length - 1, location)))
            program.append(SetLoc(location))
        else:
            program.append(instruction.gnu_args_size(draw(st.integers(0, 1 << 20))))
    return program
