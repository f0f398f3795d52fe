"""Retpoline thunks of a kernel, whose unwind rules no table of its own tells: they are read from the code.

The kernel's checker is told to leave `__x86_indirect_thunk_REG` alone (arch/x86/lib/retpoline.S): before 6.3 its ORC
calls it the end of the stack, which cuts a stack that was interrupted there and calls it whole, later it says nothing.
Data comes from the image's code, the rows go to `cfi_sources`. Where a processor needs no retpolines the kernel writes
a plain jump over the thunk's first instruction, to which the first rule applies as well.

A thunk is `call 1f`, a trap for speculation, `1: mov %REG, (%rsp)`, and a return or a jump to the return thunk. Those
of calls that may be counted (call depth tracking) have room for that in front. Other code that jumps so, as
return_to_handler of ftrace, has another stack; it does not begin so.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from cfi_tables import layout, rule_pool, x86_64
from cfi_tables.elf_image import SHF_ALLOC, SHF_EXECINSTR, ElfImage
from cfi_tables.rule_record import INVALID, Rule
from cfi_tables.section_rows import Rows

_CODE = SHF_ALLOC | SHF_EXECINSTR
_CALL_SIZE = 5
_LONGEST_TRAP = 31
_BEHIND_TRAP = re.compile(rb"[\x48\x4c]\x89[\x04\x0c\x14\x1c\x24\x2c\x34\x3c]\x24(?:\xc3|\xe9....)", re.DOTALL)
"""mov %REG, (%rsp), with ret or jmp rel32 behind it."""
_ALIGNMENT = 16
_COUNTING = re.compile(rb"\x90{9,10}|\x65\x48\xc1(?:\x3d|\x3c\x25)....\x05", re.DOTALL)
"""sarq $5, %gs:..., or the nops that it may replace."""
_TRAPS = (b"\xcc", b"\xf3\x90", b"\x0f\xae\xe8")
"""What the trap begins with: int3, pause or lfence."""


class RetpolineThunk(NamedTuple):
    """Where one is; addresses of the file."""

    begin: int
    called: int
    """The end of its call: from here on the call's return address is on the stack."""
    end: int


def retpoline_thunks(image: ElfImage) -> list[RetpolineThunk]:
    """All of them, by address. Raises ElfError for a damaged file."""
    found: list[RetpolineThunk] = []
    for section in image.section_list:
        if section.flags & _CODE == _CODE and section.size:
            code = image.contents(section).tobytes()
            for match in _BEHIND_TRAP.finditer(code):
                call = _call(code, match.start())
                begin = None if call is None else _begin(code, call, section.address)
                if call is not None and begin is not None:
                    thunk = RetpolineThunk(begin, call + _CALL_SIZE, match.end())
                    found.append(RetpolineThunk(*(section.address + place for place in thunk)))
    return sorted(found)


def _call(code: bytes, target: int) -> int | None:
    """The offset in `code` of the call over a trap that leads to `target`; None where there is none."""
    for trap in range(1, min(_LONGEST_TRAP, target - _CALL_SIZE) + 1):
        call = target - trap - _CALL_SIZE
        if code[call : call + _CALL_SIZE] == bytes((0xE8, trap, 0, 0, 0)):
            return call if code.startswith(_TRAPS, call + _CALL_SIZE) else None
    return None


def _begin(code: bytes, call: int, base: int) -> int | None:
    """Where the thunk of that call begins; None where the call is of other code."""
    begin = call - (base + call) % _ALIGNMENT
    return begin if begin == call or (begin >= 0 and _COUNTING.fullmatch(code, begin, call)) else None


def thunk_rows(thunks: list[RetpolineThunk]) -> tuple[Rows, list[Rule]]:
    """Rows and their rules by id; nothing is said between the thunks."""
    return_address = ((x86_64.RETURN_ADDRESS, layout.REGISTER_KIND_AT_CFA, -8),)
    rules = [INVALID]
    for depth in (8, 16):
        rules.append(Rule(layout.CFA_KIND_REGISTER_OFFSET, x86_64.STACK_POINTER, cfa_a=depth, entries=return_address))
    before, after = 1, 2
    addresses = [place for thunk in thunks for place in thunk]
    ids = [before, after, rule_pool.RULE_INVALID] * len(thunks)
    # Where one begins at the end of another its row is the one that holds.
    kept = [at for at in range(len(addresses)) if at + 1 == len(addresses) or addresses[at] != addresses[at + 1]]
    # Addresses of kernels are negative in the rows' signed type.
    places = np.array([addresses[at] for at in kept], dtype=np.uint64).view(np.int64)
    return Rows(places, np.array([ids[at] for at in kept], dtype=np.int64)), rules
