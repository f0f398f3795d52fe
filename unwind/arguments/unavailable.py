"""Why a value cannot be told: one reason enum, and the exception that carries it inside this package.

The exception never leaves the package: `argument_reader` turns it into the `why` of an Argument.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from unwind.dwarf.damage import DwarfError


class Reason(Enum):
    """The kinds of cause."""

    OPTIMIZED_OUT = "optimized out"
    REGISTER = "a register is not recovered in this frame"
    VECTOR_REGISTER = "floating-point registers are not captured"
    MEMORY = "memory was not captured"
    FRAME = "the frame's base or CFA is not known"
    PROLOGUE = "before the end of the prologue, which stores it"
    ENTRY_VALUE = "the value at function entry cannot be traced back to the caller"
    THREAD_LOCAL = "thread-local storage is not reachable"
    UNSUPPORTED = "a DWARF feature that is not supported"
    MALFORMED = "the debug information contradicts itself"
    NO_PROCESS = "only a process has it: an address tells no registers and no memory"
    VOID = "void"


class Unavailable(Exception):
    """A value, or a part of one, that is not known. `str()` is the text for the user."""

    def __init__(self, reason: Reason, text: str | None = None) -> None:
        super().__init__(text or reason.value)
        self.reason = reason


def optimized_out() -> Unavailable:
    """The compiler kept the value nowhere at this pc."""
    return Unavailable(Reason.OPTIMIZED_OUT)


def malformed(what: str) -> Unavailable:
    """Debug information that cannot be meant."""
    return Unavailable(Reason.MALFORMED, f"damaged debug information: {what}")


def unsupported(what: str) -> Unavailable:
    """Valid DWARF that this package does not evaluate."""
    return Unavailable(Reason.UNSUPPORTED, f"{what} is not supported")


@contextmanager
def damage_as_unavailable() -> Iterator[None]:
    """Damaged DWARF met inside costs the value at hand: DwarfError becomes Unavailable, endless recursion too."""
    try:
        yield
    except DwarfError as error:
        raise malformed(str(error)) from None
    except RecursionError:
        raise malformed("entries that refer to themselves") from None
