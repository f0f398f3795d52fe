"""ORC as the kernel's objtool prints it: an independent reading to compare tables with.

Owns the reading of what `objtool --dump=orc FILE` prints, in the forms of 5.10 to 7.x, and what its entries mean in
the words of `rule_words`. objtool belongs to one kernel's build and reads only that kernel's layout, so it is not run
from here: who has it (Debian: linux-kbuild-VERSION, tools/objtool/objtool) gives its output.

Of a vmlinux with relocations (--emit-relocs) objtool prints the addresses of the relocations, which are not in
the order of the sorted entries: remove .rela.orc_unwind_ip from a copy first. That is noticed, and refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cfi_tables.elf_image import ET_REL, ElfImage
from cfi_tables.relocation import link_view
from cfi_tables.rule_words import END, GAP, RuleWords


class ObjtoolError(Exception):
    """The text is no dump of ORC, or of another file; the text says what to do."""


@dataclass(frozen=True, slots=True)
class OrcListing:
    """Entries sorted by address (uint64), each of which holds up to the next one."""

    addresses: NDArray[np.uint64]
    entries: NDArray[np.int64]
    """Index into `words`."""
    words: list[str | RuleWords]

    def words_at(self, pcs: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The index in `words` of the entry in force at each of `pcs`, -1 in front of them all."""
        index = np.searchsorted(self.addresses, pcs, side="right") - 1
        return np.where(index >= 0, self.entries[index], -1)


_OLD = re.compile(r"^(?P<at>\S+): sp:(?P<sp>\S+) bp:(?P<bp>\S+) type:(?P<type>.*) end:(?P<end>\d)$")
_WITH_SIGNAL = re.compile(
    r"^(?P<at>\S+): sp:(?P<sp>\S+) bp:(?P<bp>\S+) type:(?P<type>.*) signal:(?P<signal>\d) end:(?P<end>\d)$"
)
_NEW = re.compile(r"^(?P<at>\S+?): ?type:(?P<type>.*) sp:(?P<sp>\S+) bp:(?P<bp>\S+) signal:(?P<signal>\d)$")
_INDIRECT = re.compile(r"\((\w+)([+-]\d+)?\)([+-]\d+)?")
_PLAIN = re.compile(r"(\w+?)([+-]\d+)")
_NAMES = {"ax": "rax", "di": "rdi", "dx": "rdx", "bp": "rbp", "sp": "rsp", "r10": "r10", "r13": "r13"}
# struct pt_regs in memory, as far as the registers that rules hold.
_PT_REGS = ("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi")
_ORDER = (
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "ra",
)  # fmt: skip
_SAVED = ("rbx", "rbp", "r12", "r13", "r14", "r15")


def read_objtool_dump(path: str | Path, image: ElfImage) -> OrcListing:
    """The dump in the file at `path`, which objtool made of `image`. Raises ObjtoolError, OSError."""
    bases = _section_bases(image)
    numbers: dict[str, int] = {}
    words: list[str | RuleWords] = []
    rows: list[tuple[int, bool, int]] = []
    previous = -1
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            at, _, rest = line.rstrip("\n").partition(":")
            if (number := numbers.get(rest)) is None:
                number = numbers[rest] = len(words)
                words.append(_meaning(line.rstrip("\n"), path))
            address = _address(at, bases, path)
            if image.file_type != ET_REL and address < previous:
                raise ObjtoolError(
                    f"{path}: addresses go back at {at}, as in a dump of a vmlinux with relocations: remove "
                    ".rela.orc_unwind_ip from a copy (objcopy -R) and dump that"
                )
            previous = address
            rows.append((address, words[number] != GAP, number))
    if not rows:
        raise ObjtoolError(f"{path}: no ORC entries; give what `objtool --dump=orc` prints for the file")
    # Of two entries at one address the one that says something holds, and the later one: sorted to the end.
    rows.sort(key=lambda row: row[:2])
    addresses = np.array([row[0] for row in rows], dtype=np.uint64)
    last = np.append(addresses[1:] != addresses[:-1], True)
    entries = np.array([row[2] for row in rows], dtype=np.int64)
    return OrcListing(addresses[last], entries[last], words)


def _section_bases(image: ElfImage) -> dict[str, int]:
    """Where each section lies, in the link view for a relocatable object."""
    addresses = link_view(image).addresses if image.file_type == ET_REL else None
    return {
        name: addresses[section.index] if addresses else section.address for name, section in image.sections.items()
    }


def _address(text: str, bases: dict[str, int], path: str | Path) -> int:
    """`ffffffff81000000`, or `.text+1b50`."""
    section, plus, offset = text.rpartition("+")
    try:
        return int(offset, 16) + (bases[section] if plus else 0)
    except (KeyError, ValueError):
        raise ObjtoolError(f"{path}: {text} is no place in the file; is this the dump of another file?") from None


def _meaning(line: str, path: str | Path) -> str | RuleWords:
    """What one line says of the frame."""
    match = _OLD.match(line) or _WITH_SIGNAL.match(line) or _NEW.match(line)
    if match is None:
        raise ObjtoolError(f"{path}: {line[:60]!r} is no line of `objtool --dump=orc`; give its output")
    entry = match.groupdict()
    if entry["sp"] == "(und)":
        return END if entry.get("end") == "1" or entry["type"] == "end" else GAP
    kind = entry["type"]
    if kind not in ("call", "regs", "regs (partial)"):
        raise ObjtoolError(f"{path}: ORC type {kind!r} is not known")
    found = {}
    if kind == "regs":
        found = {name: f"c{8 * index:+d}" for index, name in enumerate(_PT_REGS)}
        found |= {"ra": "c+128", "rsp": "c+152"}
    else:
        found = {"ra": "c-8"} if kind == "call" else {"ra": "c+0", "rsp": "c+24"}
        found |= {name: "u" for name in _SAVED if name != "rbp"}
        if entry["bp"].startswith("prevsp"):
            found["rbp"] = "c" + entry["bp"].removeprefix("prevsp")
        elif entry["bp"] != "(und)":
            found["rbp"] = f"exp (rbp{entry['bp'].removeprefix('bp').replace('+0', '')})"
    signal = entry["signal"] == "1" if "signal" in entry else kind != "call"
    registers = tuple((name, found[name]) for name in _ORDER if name in found)
    return RuleWords(_frame_address(entry["sp"], path), registers, signal)


def _frame_address(text: str, path: str | Path) -> str:
    if (indirect := _INDIRECT.fullmatch(text)) is not None and indirect[1] in _NAMES:
        return f"*({_NAMES[indirect[1]]}{int(indirect[2] or 0):+d}){int(indirect[3] or 0):+d}"
    if (plain := _PLAIN.fullmatch(text)) is not None and plain[1] in _NAMES:
        return f"{_NAMES[plain[1]]}{int(plain[2]):+d}"
    raise ObjtoolError(f"{path}: the stack pointer's place {text!r} is not known")
