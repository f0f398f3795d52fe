"""What a report is to the session that feeds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from unwind.trace import Trace


class Report(Protocol):
    """Where traces go."""

    def write(self, trace: Trace) -> None:
        """Show one trace, at once. Raises OSError; BrokenPipeError when nobody reads on."""


@runtime_checkable
class WholeReport(Report, Protocol):
    """A report that is not whole before its end was told."""

    def finish(self) -> None:
        """Write what is left. Raises OSError; BrokenPipeError when nobody reads on."""


class OutputError(Exception):
    """Traces cannot be written; the text says why."""
