"""Reading /proc/PID/maps (proc(5)) as rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from relay_reader.capture import Mapping


@dataclass(frozen=True, slots=True)
class MapRow:
    """One mapping of an address space."""

    start: int
    end: int
    executable: bool
    file_offset: int
    device: tuple[int, int]
    """Major and minor number as the kernel prints them; on some file systems not those of stat(2)."""
    inode: int
    path: str
    writable: bool = False

    def mapping(self) -> Mapping:
        """The row as captures tell it; anonymous memory is named `//anon` as perf names it."""
        return Mapping(self.start, self.end, self.file_offset, self.path or "//anon")


def read_memory_map(tid: int) -> tuple[list[MapRow], str]:
    """The rows for a thread's address space and the text they come from. Raises OSError when it has ended.

    By thread and not by process: the file of a process whose first thread has ended is empty.
    """
    text = Path(f"/proc/{tid}/maps").read_text(errors="surrogateescape")
    return parse_memory_map(text), text


def parse_memory_map(text: str) -> list[MapRow]:
    """The rows of what /proc/PID/maps says, by address."""
    return [_row(line) for line in text.splitlines()]


def _row(line: str) -> MapRow:
    fields = line.split(None, 5)
    start, end = fields[0].split("-")
    major, minor = fields[3].split(":")
    # The kernel escapes a newline alone (seq_file_path), so that a row stays a line.
    path = fields[5].replace("\\012", "\n") if len(fields) > 5 else ""
    return MapRow(
        int(start, 16),
        int(end, 16),
        "x" in fields[1],
        int(fields[2], 16),
        (int(major, 16), int(minor, 16)),
        int(fields[4]),
        path,
        "w" in fields[1],
    )
