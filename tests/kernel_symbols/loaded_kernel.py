"""A kernel as it would run: its symbols moved by address randomization, its modules laid out at addresses.

What the kernel shows of itself is written here from readelf's and nm's reading of its files: /proc/kallsyms,
/proc/modules and /sys/module. It is what the kernel makes of the same symbol tables when it starts.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

_FLAGS = "AX"
_NOT_LISTED = frozenset("aAUnN")


@dataclass(frozen=True)
class CodeSection:
    """A section of a module that holds code."""

    name: str
    number: int
    size: int
    alignment: int


def code_sections(path: Path) -> list[CodeSection]:
    """As readelf lists them."""
    text = subprocess.run(["readelf", "-SW", path], capture_output=True, text=True, check=True).stdout
    row = re.compile(r"^ *\[ *(\d+)\] (\S+) +(?:PROGBITS|NOBITS) +\S+ +\S+ +(\S+) +\S+ +(\S*) +\d+ +\d+ +(\d+)$", re.M)
    return [
        CodeSection(name, int(number), int(size, 16), int(alignment))
        for number, name, size, flags, alignment in row.findall(text)
        if flags == _FLAGS and int(size, 16)
    ]


def section_symbols(path: Path) -> list[tuple[str, int, int]]:
    """(name, section, value) of the functions and labels, as readelf lists them."""
    text = subprocess.run(["readelf", "-sW", path], capture_output=True, text=True, check=True).stdout
    row = re.compile(r"^ *\d+: ([0-9a-f]+) +\S+ (?:FUNC|NOTYPE) +\S+ +\S+ +(\d+) (\S+)$", re.M)
    return [(name, int(section), int(value, 16)) for value, section, name in row.findall(text)]


@dataclass
class LoadedModule:
    """One module at its place."""

    name: str
    path: Path
    start: int
    sections: dict[str, int] = field(default_factory=dict)
    """Address by name."""
    size: int = 0

    def __post_init__(self) -> None:
        """Lay code out as the kernel does: what stays from `start` on, what is only for the start elsewhere."""
        at, early = self.start, self.start + 0x400_0000
        for section in code_sections(self.path):
            if section.name.startswith(".init"):
                self.sections[section.name] = early = -(-early // section.alignment) * section.alignment
                early += section.size
            else:
                self.sections[section.name] = at = -(-at // section.alignment) * section.alignment
                at += section.size
        self.size = at - self.start

    def kallsyms_lines(self) -> list[str]:
        by_number = {each.number: self.sections[each.name] for each in code_sections(self.path)}
        return [
            f"{by_number[section] + value:016x} t {name}\t[{self.name}]"
            for name, section, value in section_symbols(self.path)
            if section in by_number
        ]


@dataclass
class LoadedKernel:
    """A kernel moved by `slide`, and what it shows in `folder`."""

    vmlinux: Path
    slide: int
    modules: list[LoadedModule]
    folder: Path

    @property
    def kallsyms(self) -> Path:
        return self.folder / "kallsyms"

    @property
    def module_list(self) -> Path:
        return self.folder / "modules"

    @property
    def sections(self) -> Path:
        return self.folder / "module"

    def write(self) -> None:
        lines = []
        table = subprocess.run(
            ["nm", "--defined-only", self.vmlinux], capture_output=True, text=True, check=True
        ).stdout
        for line in table.splitlines():
            address, kind, name = line.split()
            if kind not in _NOT_LISTED:
                lines.append(f"{int(address, 16) + self.slide:016x} {kind} {name}")
        for module in self.modules:
            lines += module.kallsyms_lines()
            sections = self.sections / module.name / "sections"
            sections.mkdir(parents=True)
            for name, address in module.sections.items():
                (sections / name).write_text(f"{address:#018x}\n")
        self.kallsyms.write_text("\n".join(lines) + "\n")
        self.module_list.write_text(
            "".join(f"{each.name} {each.size} 0 - Live {each.start:#018x}\n" for each in self.modules)
        )
