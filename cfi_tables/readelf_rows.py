"""Call frame information as readelf interprets it: an independent reading to compare tables with.

Owns running `readelf --debug-dump=frames-interp`, the reading of what it prints (binutils 2.35 to 2.44 agree) and the
search in it. Rules are in readelf's own words: `rsp+8`, `c-16` (saved at CFA-16), `v+0` (is CFA+0), `s` (same), `u`
(undefined, or not mentioned: it prints both alike), `exp` and `vexp` (an expression, whose operations this listing
does not have), or a register's name.

A large library has a million rows and a few hundred rules, so the text of a rule is understood once and rows are
columns.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cfi_tables.progress import progress


class ReadelfError(Exception):
    """readelf is not there, or fails; the text says what to do."""


@dataclass(frozen=True, slots=True)
class ReadelfRule:
    """A rule as readelf prints it, with what its CIE says."""

    cfa: str
    registers: tuple[tuple[str, str], ...]
    """(readelf's name of the register, its rule)."""
    augmentation: str
    return_column: int


@dataclass(frozen=True, slots=True)
class ReadelfSection:
    """The FDEs of one section; row i of an FDE holds up to row i + 1 or the FDE's end. Addresses are uint64."""

    starts: NDArray[np.uint64]
    ends: NDArray[np.uint64]
    first_row: NDArray[np.int64]
    """One more than there are FDEs."""
    addresses: NDArray[np.uint64]
    """Of each row."""
    rules: NDArray[np.int64]
    """Of each row, an index into `words`."""
    words: list[ReadelfRule]

    def inside(self, ranges: list[tuple[int, int]]) -> ReadelfSection:
        """Only the FDEs that lie in one of `ranges`, the one that starts first and reaches furthest first."""
        alive = np.zeros(len(self.starts), dtype=np.bool_)
        for low, high in ranges:
            alive |= (self.starts >= np.uint64(low)) & (self.ends <= np.uint64(high))
        chosen = np.flatnonzero(alive & (self.starts < self.ends))
        chosen = chosen[np.lexsort((np.iinfo(np.uint64).max - self.ends[chosen], self.starts[chosen]))]
        counts = np.diff(self.first_row)[chosen]
        first_row = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
        rows = np.repeat(self.first_row[chosen] - first_row[:-1], counts) + np.arange(first_row[-1])
        return ReadelfSection(
            self.starts[chosen], self.ends[chosen], first_row, self.addresses[rows], self.rules[rows], self.words
        )

    def boundaries(self) -> NDArray[np.uint64]:
        """Where FDEs and rows begin, and where FDEs end."""
        return np.concatenate([self.starts, self.ends, self.addresses])

    def rules_at(self, pcs: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The index in `words` of the rule in force at each of `pcs`, -1 where there is none.

        Of several FDEs that cover a pc it is the one that starts last, of several rows the last. The section is one
        that `inside` gave.
        """
        found = np.full(len(pcs), -1, dtype=np.int64)
        if len(self.starts) == 0 or len(pcs) == 0:
            return found
        # Behind which end all FDEs up to index i lie: how far back a pc may have to look.
        reach = np.maximum.accumulate(self.ends)
        fde = np.searchsorted(self.starts, pcs, side="right").astype(np.int64) - 1
        looking = np.flatnonzero(fde >= 0)
        looking = looking[reach[fde[looking]] > pcs[looking]]
        covered: list[NDArray[np.int64]] = []
        while len(looking):
            inside = pcs[looking] < self.ends[fde[looking]]
            covered.append(looking[inside])
            looking = looking[~inside]
            fde[looking] -= 1
            looking = looking[fde[looking] >= 0]
            looking = looking[reach[fde[looking]] > pcs[looking]]
        which = np.concatenate(covered) if covered else looking
        # Rows of all FDEs in one order: by FDE, then by the distance from its start.
        owner = np.repeat(np.arange(len(self.starts), dtype=np.int64), np.diff(self.first_row))
        keys = _keys(owner, self.addresses - self.starts[owner])
        order = np.argsort(keys, kind="stable")
        place = np.searchsorted(keys[order], _keys(fde[which], pcs[which] - self.starts[fde[which]]), side="right") - 1
        sound = (place >= 0) & (owner[order[place]] == fde[which])
        found[which[sound]] = self.rules[order[place[sound]]]
        return found


def _keys(fde: NDArray[np.int64], distance: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers that sort by FDE, then by distance (below 2**40 bytes)."""
    return fde.astype(np.uint64) << np.uint64(40) | np.minimum(distance, np.uint64((1 << 40) - 1))


_ENTRY = re.compile(
    r'^([0-9a-f]+) [0-9a-f]+ [0-9a-f]+ (?:CIE "([^"]*)" .*\bra=(\d+)|FDE cie=([0-9a-f]+) pc=([0-9a-f]+)\.\.([0-9a-f]+))'
)
_ROW = re.compile(r"^[0-9a-f]{8,16} (?!ZERO terminator)")
_REGISTER = re.compile(r"\br\d+ \((\w+)\)")  # a rule that names a register: `r1 (rdx)`


def readelf_frames(path: str | Path) -> dict[str, ReadelfSection]:
    """The FDEs of each call frame section of `path`, by section name. Raises ReadelfError."""
    if shutil.which("readelf") is None:
        raise ReadelfError("readelf is not installed; install the package binutils")
    # N: do not follow links to separate debug files, which hold the same sections.
    command, environment = ["readelf", "-wNF", str(path)], {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
    with progress(f"readelf's reading of {Path(path).name}"):
        process = subprocess.run(command, capture_output=True, text=True, env=environment)
    if process.returncode:
        raise ReadelfError(f"readelf cannot read {path}: {process.stderr.strip()}; is it an ELF file?")
    listing = _Listing()
    for line in process.stdout.splitlines():
        address, _, rest = line.partition(" ")
        number = listing.known.get(rest)
        if number is None:
            listing.read_line(line)
        else:  # nearly all lines: a row whose rule has been seen under the same head line
            listing.addresses.append(int(address, 16))
            listing.rules.append(number)
    listing.end_fde()
    return {name: _Columns.section(columns, listing.words) for name, columns in listing.sections.items()}


class _Columns:
    """One section while it is read."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []
        self.first_row = [0]
        self.addresses: list[int] = []
        self.rules: list[int] = []

    def section(self, words: list[ReadelfRule]) -> ReadelfSection:
        ranges = np.array(self.ranges, dtype=np.uint64).reshape(-1, 2)
        return ReadelfSection(
            starts=ranges[:, 0].copy(),
            ends=ranges[:, 1].copy(),
            first_row=np.array(self.first_row, dtype=np.int64),
            addresses=np.array(self.addresses, dtype=np.uint64),
            rules=np.array(self.rules, dtype=np.int64),
            words=words,
        )


class _Listing:
    """What was read of readelf's text up to a line."""

    def __init__(self) -> None:
        self.words: list[ReadelfRule] = []
        self.sections: dict[str, _Columns] = {}
        self.known: dict[str, int] = {}
        """The rest of a row's line -> its rule, under the head line and the CIE in force."""
        self.addresses: list[int] = []
        """Of the rows of the entry that is being read."""
        self.rules: list[int] = []
        self._knowns: dict[tuple[str, str, int], dict[str, int]] = {}
        self._columns: list[str] = []
        self._cies: dict[str, tuple[str, int, list[int]]] = {}
        self._cie: tuple[str, int, list[int]] = ("", -1, [])
        self._section = _Columns()
        self._range: tuple[int, int] | None = None
        """Of the FDE that is being read, None in a CIE."""

    def read_line(self, line: str) -> None:
        """A line that is no row, or a row whose rule is new."""
        if line.startswith("Contents of the "):
            self.end_fde()
            self._section = self.sections.setdefault(line.split()[3], _Columns())
            self._cies = {}
        elif (entry := _ENTRY.match(line)) is not None:
            self._begin(entry)
        elif line.lstrip().startswith("LOC"):
            self._columns = line.split()[2:]
            self.known = self._knowns.setdefault((line, self._cie[0], self._cie[1]), {})
        elif _ROW.match(line):
            address, _, rest = line.partition(" ")
            words = _REGISTER.sub(r"\1", rest).split()
            registers = tuple(zip(self._columns, words[1:], strict=True))
            self.known[rest] = len(self.words)
            self.addresses.append(int(address, 16))
            self.rules.append(len(self.words))
            self.words.append(ReadelfRule(words[0], registers, self._cie[0], self._cie[1]))

    def _begin(self, entry: re.Match[str]) -> None:
        self.end_fde()
        if entry[4] is None:
            # Its rows go to the list in the CIE: an FDE without instructions prints none, those of its CIE hold.
            self.rules = []
            self._cie = self._cies[entry[1]] = (entry[2], int(entry[3]), self.rules)
        else:
            self._cie = self._cies.get(entry[4], ("", -1, []))
            self._range = int(entry[5], 16), int(entry[6], 16)
        self.known = {}

    def end_fde(self) -> None:
        """Put what was read of an FDE to its section."""
        if self._range is not None:
            if not self.rules and self._cie[2]:
                self.addresses, self.rules = [self._range[0]] * len(self._cie[2]), self._cie[2]
            self._section.ranges.append(self._range)
            self._section.addresses += self.addresses
            self._section.rules += self.rules
            self._section.first_row.append(len(self._section.addresses))
        self._range = None
        self.addresses, self.rules = [], []
