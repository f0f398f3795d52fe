"""A report that is written when all traces are there: they are merged first, then a format writes the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfi_tables.progress import progress
from ptap.profile.stack_profile import StackProfile

if TYPE_CHECKING:
    from collections.abc import Callable

    from unwind.trace import Trace


class ProfileReport:
    """Merges traces; `finish` gives them to `encode`, a format's writer."""

    def __init__(self, encode: Callable[[StackProfile], None]) -> None:
        self.profile = StackProfile()
        self._encode = encode

    def write(self, trace: Trace) -> None:
        """Add one trace."""
        self.profile.add(trace)

    def finish(self) -> None:
        """Write the profile. Raises OSError; BrokenPipeError when nobody reads on."""
        with progress("writing the report", interleaved=True):
            self._encode(self.profile)
