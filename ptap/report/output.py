"""What a report is to the session that feeds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from unwind.trace import Trace


class Report(Protocol):
    """Where traces go."""

    def write(self, trace: Trace) -> None:
        """Show one trace, at once. Raises OSError; BrokenPipeError when nobody reads on."""


class OutputError(Exception):
    """Traces cannot be written; the text says why."""
