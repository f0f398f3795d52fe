"""ORC, the Linux kernel's own unwind data for x86-64, as the same rules that CFI gives.

Owns `.orc_unwind` and `.orc_unwind_ip`: one 6-byte entry (`struct orc_entry`) a row, and where each begins, 32 bits
relative to the word itself. The entries' layout has changed with kernel releases, and their meaning is that of the
kernel's unwinder (arch/x86/include/asm/orc_types.h, arch/x86/kernel/unwind_orc.c):

* 5.10 - 6.2: `sp_reg:4 bp_reg:4 type:2 end:1`;
* 6.3: a `signal` bit before `end`;
* 6.4 - 7.0: `type:3 signal:1`, the end of the stack being a type;
* 7.1 and later: the same bits, but other numbers of the registers, and rax among them.

`.orc_header` (6.4 and later, and stable releases before) has a hash of the definitions, which decides. Where there
is none the release does: the banner of a vmlinux or the vermagic of a module. A layout that neither names, or whose
entries are not sound in it, is an error, never a guess.

ORC knows the stack pointer, the return address and rbp, and nothing of rbx and r12-r15: a rule made from ORC calls
these unknown, except where it names a whole pt_regs. Offsets from rax, rdx, rdi, r10 and r13 are added, as the hints in
the entry code mean them: the NMI entry has its interrupt frame at rdx + 8.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from cfi_tables import layout, rule_pool, x86_64
from cfi_tables.elf_image import ET_REL, ElfError, ElfImage
from cfi_tables.relocation import link_view, relocated_contents
from cfi_tables.rule_record import INVALID, OVERFLOW, Rule
from cfi_tables.section_rows import Rows, normalize, signed


class OrcLayout(Enum):
    """How an entry's 16 bits of flags are laid out."""

    BEFORE_6_3 = "5.10-6.2"
    SIGNAL_BIT = "6.3"
    TYPES = "6.4-7.0"
    OTHER_REGISTERS = "7.1 and later"


# SHA-1 of the definitions, as scripts/orc_hash.sh makes it.
_HASHES = {
    bytes.fromhex("db84aed4103b31dd51e017f8f79783ca985c2c51"): OrcLayout.SIGNAL_BIT,
    bytes.fromhex("fe5d32bf581bd63b2ca9a5c65ba5a625eab3fe24"): OrcLayout.TYPES,
    bytes.fromhex("137c36ad7627c4dd55932176bb0ecdbd5041fc82"): OrcLayout.OTHER_REGISTERS,
}
_FIRST_RELEASE = (5, 10)
_SP_INDIRECT_CHANGED = (5, 12)

_ENTRY = np.dtype([("sp_offset", "<i2"), ("bp_offset", "<i2"), ("bits", "<u2")])

# ORC_REG_* before 7.1, and behind them the one that came with 7.1.
_UNDEFINED, _PREVIOUS_SP, _DX, _DI, _BP, _SP, _R10, _R13, _BP_INDIRECT, _SP_INDIRECT, _AX = range(11)
# The same by the numbers of 7.1.
_SINCE_7_1 = (_UNDEFINED, _AX, _DX, _SP, _BP, _DI, _R10, _R13, _PREVIOUS_SP, _SP_INDIRECT, _BP_INDIRECT)
_NO_REGISTER = 15
_BASE = {_AX: 0, _DX: 1, _DI: 5, _BP: 6, _SP: 7, _R10: 10, _R13: 13, _BP_INDIRECT: 6, _SP_INDIRECT: 7}

# The types of every layout, with the numbers of 6.4.
_TYPE_UNDEFINED, _TYPE_END, _TYPE_CALL, _TYPE_REGS, _TYPE_REGS_PARTIAL = range(5)

# struct pt_regs: DWARF register -> offset; and the part that the processor pushes, from `ip` on.
_PT_REGS = {
    15: 0, 14: 8, 13: 16, 12: 24, 6: 32, 3: 40, 11: 48, 10: 56, 9: 64, 8: 72, 0: 80, 2: 88, 1: 96, 4: 104, 5: 112,
    16: 128, 7: 152,
}  # fmt: skip
_IRET_FRAME = {16: 0, 7: 24}
_NOT_IN_ORC = tuple(register for register in x86_64.CALLEE_SAVED if register != 6)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry with the types of 6.4 and the register numbers before 7.1."""

    sp_offset: int
    bp_offset: int
    sp_register: int
    bp_register: int
    type: int
    signal: bool


def has_orc(image: ElfImage) -> bool:
    """Whether `image` has ORC data of a machine that this module knows."""
    return image.machine == x86_64.MACHINE and image.has(".orc_unwind") and image.has(".orc_unwind_ip")


def orc_rows(image: ElfImage, ranges: list[tuple[int, int]]) -> tuple[Rows, list[Rule]]:
    """The rows of ORC and their distinct rules by id; `ranges` are the addresses that hold code.

    Raises ElfError when the layout is not known or the data is damaged.
    """
    addresses, entries = _read(image)
    release = kernel_release(image)
    # For one address, what says nothing stands first, as the kernel sorts: the other one holds.
    distinct, inverse = np.unique(entries, return_inverse=True)
    orc_layout = entry_layout(image, release)
    adds_behind = orc_layout is not OrcLayout.BEFORE_6_3 or (release is not None and release >= _SP_INDIRECT_CHANGED)
    rules: list[Rule] = [INVALID]
    numbers = {INVALID: rule_pool.RULE_INVALID}
    ids = np.empty(len(distinct), dtype=np.int64)
    for index, row in enumerate(distinct.tolist()):
        rule = _rule(_decode(row, orc_layout, image.path), adds_behind)
        if rule not in numbers:
            numbers[rule] = len(rules)
            rules.append(rule)
        ids[index] = numbers[rule]
    row_rules = ids[inverse.reshape(-1)]
    order = np.lexsort((row_rules != rule_pool.RULE_INVALID, addresses))
    rows = Rows(addresses[order], row_rules[order])
    return _clip(normalize(rows), ranges), rules


def _read(image: ElfImage) -> tuple[NDArray[np.int64], NDArray[np.void]]:
    """(address, entry) of each row, in file order."""
    data, places = image.sections[".orc_unwind"], image.sections[".orc_unwind_ip"]
    if image.file_type == ET_REL:
        words, base = relocated_contents(image, places), link_view(image).addresses[places.index]
        contents = relocated_contents(image, data)
    else:
        words, base = image.section_data(".orc_unwind_ip"), signed(places.address)
        contents = image.section_data(".orc_unwind")
    count = len(words) // 4
    if len(words) % 4 or len(contents) != count * _ENTRY.itemsize:
        raise ElfError(
            f"{image.path}: .orc_unwind has {len(contents)} bytes and .orc_unwind_ip {len(words)}, which do not "
            "belong together; install the kernel again"
        )
    relative = words.view("<i4").astype(np.int64)
    return base + 4 * np.arange(count, dtype=np.int64) + relative, contents.view(_ENTRY)


def kernel_release(image: ElfImage) -> tuple[int, int] | None:
    """(major, minor) of the kernel that `image` is or belongs to; None where it does not say."""
    for section, pattern in (
        (".modinfo", rb"(?:^|\0)vermagic=(\d+)\.(\d+)"),
        (".rodata", rb"Linux version (\d+)\.(\d+)"),
    ):
        if not image.has(section):
            continue
        found = re.search(pattern, image.section_data(section).tobytes())
        if found is not None:
            return int(found[1]), int(found[2])
    return None


def entry_layout(image: ElfImage, release: tuple[int, int] | None) -> OrcLayout:
    """The layout of the entries, by `.orc_header` or else by the release. Raises ElfError where neither tells."""
    if image.has(".orc_header"):
        digest = image.section_data(".orc_header").tobytes()
        if digest not in _HASHES:
            raise ElfError(
                f"{image.path}: .orc_header names definitions of ORC that are not known ({digest.hex()}); this kernel "
                "is newer than this program: install a newer one, or name a vmlinux with .debug_frame"
            )
        return _HASHES[digest]
    if release is None or release < _FIRST_RELEASE:
        version = "says no release" if release is None else f"is of release {release[0]}.{release[1]}"
        raise ElfError(f"{image.path}: it has no .orc_header and {version}; ORC is read from 5.10 on")
    if release < (6, 3):
        return OrcLayout.BEFORE_6_3
    if release >= (7, 1):
        return OrcLayout.OTHER_REGISTERS
    return OrcLayout.SIGNAL_BIT if release == (6, 3) else OrcLayout.TYPES


def _decode(row: tuple[int, int, int], orc_layout: OrcLayout, path: str) -> _Entry:
    """An entry, whatever its layout, as one `_Entry`. Raises ElfError for one that is not sound in its layout."""
    sp_offset, bp_offset, bits = row
    sp_register, bp_register = bits & 15, bits >> 4 & 15
    if orc_layout is OrcLayout.OTHER_REGISTERS:
        sp_register, bp_register = (
            _SINCE_7_1[number] if number < len(_SINCE_7_1) else _NO_REGISTER for number in (sp_register, bp_register)
        )
    elif sp_register == _AX:
        sp_register = _NO_REGISTER
    if orc_layout in (OrcLayout.TYPES, OrcLayout.OTHER_REGISTERS):
        kind, signal, spare = bits >> 8 & 7, bool(bits >> 11 & 1), bits >> 12
    else:
        # CALL, REGS, REGS_PARTIAL; the end of the stack is a bit, and nothing known is sp_reg UNDEFINED.
        end = bits >> (10 if orc_layout is OrcLayout.BEFORE_6_3 else 11) & 1
        spare = bits >> (11 if orc_layout is OrcLayout.BEFORE_6_3 else 12)
        kind = (bits >> 8 & 3) + _TYPE_CALL
        signal = kind != _TYPE_CALL if orc_layout is OrcLayout.BEFORE_6_3 else bool(bits >> 10 & 1)
        if sp_register == _UNDEFINED:
            kind = _TYPE_END if end else _TYPE_UNDEFINED
    sound = kind in (_TYPE_UNDEFINED, _TYPE_END) or (kind <= _TYPE_REGS_PARTIAL and sp_register in _BASE)
    if spare or not sound or bp_register not in (_UNDEFINED, _PREVIOUS_SP, _BP):
        raise ElfError(
            f"{path}: .orc_unwind has an entry ({sp_offset}, {bp_offset}, {bits:#06x}) that is not sound in the layout "
            f"of {orc_layout.value}; the file is damaged, or its ORC data is of another kernel's layout"
        )
    return _Entry(sp_offset, bp_offset, sp_register, bp_register, kind, signal)


def _rule(entry: _Entry, adds_behind: bool) -> Rule:
    """`adds_behind`: whether SP_INDIRECT adds its offset to what it reads."""
    if entry.type == _TYPE_UNDEFINED:
        return INVALID
    if entry.type == _TYPE_END:
        return Rule(layout.CFA_KIND_END)
    kind, a, b = layout.CFA_KIND_REGISTER_OFFSET, entry.sp_offset, 0
    if entry.sp_register == _BP_INDIRECT:
        kind = layout.CFA_KIND_DEREF
    elif entry.sp_register == _SP_INDIRECT:
        # Since 5.12 the offset is added to what is read; before, to the place that it is read from.
        kind, a, b = layout.CFA_KIND_DEREF, 0, entry.sp_offset
        if b and not adds_behind:
            return OVERFLOW  # stable releases before may have either meaning: a gap would let DWARF fill it wrongly
    saved: dict[int, tuple[int, int | bytes]] = {}
    if entry.type == _TYPE_CALL:
        saved[x86_64.RETURN_ADDRESS] = (layout.REGISTER_KIND_AT_CFA, -8)
    else:
        frame = _PT_REGS if entry.type == _TYPE_REGS else _IRET_FRAME
        saved.update({register: (layout.REGISTER_KIND_AT_CFA, offset) for register, offset in frame.items()})
    if entry.type != _TYPE_REGS:
        if entry.bp_register == _PREVIOUS_SP:
            saved[6] = (layout.REGISTER_KIND_AT_CFA, entry.bp_offset)
        elif entry.bp_register == _BP:
            saved[6] = (layout.REGISTER_KIND_EXPRESSION, bytes([0x76]) + _sleb(entry.bp_offset))  # DW_OP_breg6
        for register in _NOT_IN_ORC:
            saved[register] = (layout.REGISTER_KIND_UNDEFINED, 0)
    flags = layout.RULE_FLAG_SIGNAL_FRAME if entry.signal else 0
    entries = tuple((register, how, value) for register, (how, value) in sorted(saved.items()))
    return Rule(kind, _BASE[entry.sp_register], flags, a, b, entries)


def _sleb(value: int) -> bytes:
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value & 127])


def _clip(rows: Rows, ranges: list[tuple[int, int]]) -> Rows:
    """`rows` with gaps outside of `ranges`: each entry of ORC holds up to the next one, wherever that is."""
    pieces: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for low, high in sorted((signed(low), signed(high)) for low, high in ranges):
        first = int(np.searchsorted(rows.addresses, low, side="right")) - 1
        last = int(np.searchsorted(rows.addresses, high, side="left"))
        addresses, rules = rows.addresses[max(first, 0) : last].copy(), rows.rules[max(first, 0) : last]
        if first >= 0:
            addresses[0] = max(addresses[0], low)
        pieces.append((np.append(addresses, high), np.append(rules, rule_pool.RULE_INVALID)))
    if not pieces:
        return Rows(rows.addresses[:0], rows.rules[:0])
    return normalize(Rows(np.concatenate([a for a, _ in pieces]), np.concatenate([r for _, r in pieces])))
