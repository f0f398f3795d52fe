"""Call frame information as readelf interprets it: an independent reading to compare tables with.

Owns running `readelf --debug-dump=frames-interp` and the reading of what it prints (binutils 2.35 to 2.44 agree).
What comes out is in readelf's own words: `rsp+8`, `c-16` (saved at CFA-16), `v+0` (is CFA+0), `s` (same), `u`
(undefined, or not mentioned: it prints both alike), `exp` and `vexp` (an expression, whose operations this listing
does not have), or a register's name.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path


class ReadelfError(Exception):
    """readelf is not there, or fails; the text says what to do."""


@dataclass(slots=True)
class ReadelfFde:
    """One FDE: its rows are (address, CFA, rule of each register by readelf's name)."""

    start: int
    end: int
    augmentation: str
    return_column: int
    rows: list[tuple[int, str, dict[str, str]]] = field(default_factory=list)


_ENTRY = re.compile(
    r'^([0-9a-f]+) [0-9a-f]+ [0-9a-f]+ (?:CIE "([^"]*)" .*\bra=(\d+)|FDE cie=([0-9a-f]+) pc=([0-9a-f]+)\.\.([0-9a-f]+))'
)
_ROW = re.compile(r"^[0-9a-f]{8,16} (?!ZERO terminator)")
_REGISTER = re.compile(r"\br\d+ \((\w+)\)")  # a rule that names a register: `r1 (rdx)`


def readelf_frames(path: str | Path) -> dict[str, list[ReadelfFde]]:
    """The FDEs of each call frame section of `path`, by section name. Raises ReadelfError."""
    if shutil.which("readelf") is None:
        raise ReadelfError("readelf is not installed; install the package binutils")
    # N: do not follow links to separate debug files, which hold the same sections.
    process = subprocess.run(
        ["readelf", "-wNF", str(path)], capture_output=True, text=True, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
    )
    if process.returncode:
        raise ReadelfError(f"readelf cannot read {path}: {process.stderr.strip()}; is it an ELF file?")
    sections: dict[str, list[ReadelfFde]] = {}
    fdes: list[ReadelfFde] = []
    cies: dict[str, ReadelfFde] = {}
    current: ReadelfFde | None = None
    columns: list[str] = []
    inherits = False
    for line in process.stdout.splitlines():
        if line.startswith("Contents of the "):
            fdes = sections.setdefault(line.split()[3], [])
            cies, current = {}, None
        elif current is not None and _ROW.match(line) and not (entry := _ENTRY.match(line)):
            words = _REGISTER.sub(r"\1", line).split()
            current.rows.append((int(words[0], 16), words[1], dict(zip(columns, words[2:], strict=True))))
        elif line.lstrip().startswith("LOC"):
            columns = line.split()[2:]
            if current is not None and inherits:
                current.rows = []
                inherits = False
        elif (entry := _ENTRY.match(line)) is not None:
            if entry[4] is None:
                current = cies[entry[1]] = ReadelfFde(0, 0, entry[2], int(entry[3]))
                inherits = False
                continue
            cie = cies.get(entry[4], ReadelfFde(0, 0, "", -1))
            current = ReadelfFde(int(entry[5], 16), int(entry[6], 16), cie.augmentation, cie.return_column)
            # An FDE without instructions prints no row: the one of its CIE holds.
            current.rows = [(current.start, cfa, rules) for _, cfa, rules in cie.rows]
            inherits = True
            fdes.append(current)
    return sections
