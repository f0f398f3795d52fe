"""The trace: what a hit comes to, ready for any report. The fields follow the output contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cfi_tables.layout import StopReason

if TYPE_CHECKING:
    from unwind.arguments.argument_reader import Argument
    from unwind.arguments.local_reader import Local


@dataclass(slots=True)
class TraceFrame:
    """One frame, innermost first in a trace; inlined calls are frames of their own."""

    space: str
    """Either `kernel` or `user`."""
    address: int
    """The pc for display: a return address is not reduced by one."""
    module: str | None = None
    build_id: str | None = None
    function: str | None = None
    offset: int | None = None
    """Bytes from the function's start to `address`; None for an inlined call and in a (cold) part elsewhere."""
    file: str | None = None
    line: int | None = None
    column: int | None = None
    inlined: bool = False
    arguments: list[Argument] = field(default_factory=list)
    locals: list[Local] | None = None
    """Variables in scope, those of the innermost block first; None where they were not asked for."""
    signal: bool = False
    """A signal frame: what is called here is a signal handler."""


@dataclass(slots=True)
class Trace:
    """One hit with its stack."""

    probe: str | None
    time_ns: int
    cpu: int
    pid: int
    tid: int
    comm: str
    weight: int
    stop: StopReason
    """Why the user stack ends where it ends; END_OF_STACK when it is whole."""
    frames: list[TraceFrame]
    stop_text: str | None = None
    """What a person needs to know when the stack was cut short: which module lacks what, and the remedy."""
    returned: Argument | None = None
    """For a return probe, what the probed function returned."""
    undecided: bool = False
    """Too little is known of the stack to tell whether it was asked for (--when)."""
    chain: str | None = None
    """By whose word the user's frames are what they are, where they were not walked here: "fp" (frame pointers) or
    "lbr" (the processor's branch records)."""
    signal: str | None = None
    """The signal that ended the process in this thread ("SIGSEGV"), where a core file tells."""
    host: str | None = None
    """The machine that it is of, where a capture is of several; `time_ns` is since 1970 then."""
    weight_unit: str = ""
    """`ns` where the weight is nanoseconds, empty where it is a count."""
