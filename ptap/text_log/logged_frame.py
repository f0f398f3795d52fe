"""What a log's line says of a frame: the words that are it, and the place in a file or kernel that they mean.

A place is a value: the same one comes again in other lines and is looked up once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeAlias


class Counted(Enum):
    """From where the number in a frame is counted."""

    FROM_BASE = "base"
    """From the address that the file was moved by: it is a virtual address in the file."""
    FROM_FIRST_PAGE = "first page"
    """From the file's first page in memory."""
    FROM_FILE_START = "file"
    """From the file's first byte."""
    FROM_SYMBOL = "symbol"
    """From the symbol that the frame names."""


@dataclass(frozen=True, slots=True)
class FilePlace:
    """Code of a program or library."""

    path: str
    """As the log has it: a path, or a name alone."""
    number: int
    counted: Counted
    exact: bool
    """Whether the place is what ran; else it is where a call returns to."""
    symbol: str | None = None
    build_id: str | None = None
    """Hexadecimal, lower case."""
    address: int | None = None
    """Where it was in memory."""


@dataclass(frozen=True, slots=True)
class LoggedKernel:
    """Which kernel a log is of, as far as it has told."""

    release: str | None = None
    build_id: str | None = None
    slide: int | None = None
    """How far address randomization moved it ("Kernel Offset")."""


@dataclass(frozen=True, slots=True)
class KernelPlace:
    """Code of a kernel: by a function's name, or by an address alone."""

    name: str | None
    offset: int
    size: int
    """Bytes of the function: they tell functions of one name apart."""
    exact: bool
    kernel: LoggedKernel
    module: str | None = None
    build_id: str | None = None
    """The module's."""
    address: int | None = None


@dataclass(frozen=True, slots=True)
class UnmappedPlace:
    """An address of a process, of whose mappings the log tells nothing."""

    address: int
    path: str | None


Place: TypeAlias = FilePlace | KernelPlace | UnmappedPlace


@dataclass(slots=True)
class LoggedFrame:
    """A frame in a line. `line[:end]` and `line[resume:]` stay; what is known comes between them."""

    place: Place
    begin: int
    """What stands before it is repeated in the lines of inlined calls."""
    end: int
    resume: int
    label: str = ""
    """Between what is repeated and an inlined function's name."""
    word: str = " in "
    """Between the frame and its function's name, where the line does not have the name."""
    named: str | None = None
    """The function that the line names."""
    number: int | None = None
    """As the log counts them; a stack begins at 0."""
    unreliable: bool = False
    """The log says that this need not be a frame."""
    returned_to: bool = False
    """Whether the frame after it is exact where this one is the return of a signal handler."""
    alone: bool = False
    """A mention of code in a sentence: it is no part of a stack, and inlined calls get no lines of their own."""


class LogFormat(Protocol):
    """Recognizes the frames of one kind of traces. It may remember lines: each is shown to it once, in order."""

    name: str

    def frames(self, line: str) -> list[LoggedFrame]:
        """The frames in `line` (without its end), from left to right; [] for a line of another kind."""
