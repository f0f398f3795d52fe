"""What a capture back end is: it arms probe places on a target, lets it run, and yields its events.

Each back end is one module or folder beside this file. The trace command picks one, feeds `events()` to the walk,
and closes it whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from relay_reader.capture import Event, MappingAdded


class PlaceKind(Enum):
    """What happens at a probe place."""

    ENTRY = "entry"
    """A hit when the instruction is about to run (function entry, inlined copy, statement)."""
    RETURN = "return"
    """The place is a function's first instruction; a hit when that call has returned to its caller."""


@dataclass(frozen=True, slots=True)
class ProbePlace:
    """One address in one file where a probe is armed."""

    path: str
    """The ELF file, symbolic links resolved."""
    file_offset: int
    """Byte offset of the instruction in the file."""
    kind: PlaceKind


@dataclass(frozen=True, slots=True)
class Target:
    """What is traced: a command to start, or running processes, or all that runs (with a command: as long as it)."""

    command: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()
    everything: bool = False


@dataclass(slots=True)
class Postponement:
    """Asks for events only when the capture has ended, which costs the target less; and what is known until then."""

    mapped: Callable[[MappingAdded], None]
    """Gets mappings as they are made: what only the living process can tell is asked for then."""
    samples: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class CaptureLimits:
    """How much of a stack is copied at a hit, and when it is read."""

    user_stack: int
    """Bytes of user stack asked for at a hit (perf events: at most 65,528)."""
    waiting_hits: int = 1000
    """Hits that there is room for until they are read, about (perf events)."""
    postponement: Postponement | None = None
    """Where nobody waits for the events (perf events, the kernel module)."""


class CaptureError(Exception):
    """A back end cannot capture; the text says what refuses, and what the user can do next."""


class LiveCapture(Protocol):
    """A running capture. Life: `start()`, then `events()` to its end, then `close()`, which is always called."""

    name: str
    child_pid: int | None
    """The pid of the command that `start` started."""
    exit_status: int | None
    """The command's wait status (os.waitstatus_to_exitcode's input) once it has ended."""

    def start(self) -> None:
        """Arm the places and let the target run. Raises CaptureError with the remedy."""

    def events(self) -> Iterator[Event]:
        """Events in time order, beginning with the mappings and names of processes that already run.

        Ends when the command and all its descendants that are traced have ended, all traced pids have ended, or
        `stop` was called and what was captured until then has been delivered.
        """

    def stop(self) -> None:
        """End the capture soon; safe in a signal handler and from another thread."""

    def close(self) -> None:
        """Disarm everything and let the target go on. Never raises; may be called twice."""

    def wait_for_command(self) -> int | None:
        """Wait, after `close`, for the end of the command: its wait status. None without a command."""

    def shortcomings(self) -> list[str]:
        """What this capture could not do, each as a line for the user; to be asked after `close`."""
