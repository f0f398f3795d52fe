"""A report that is written when all traces are there: they are merged first, then a format writes the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfi_tables.progress import progress
from ptap.profile.profile_builder import ProfileBuilder

if TYPE_CHECKING:
    from collections.abc import Callable

    from ptap.profile.stack_profile import StackProfile
    from unwind.trace import Trace


class ProfileReport:
    """Merges traces; `finish` gives their profile to `encode`, a format's writer."""

    def __init__(self, encode: Callable[[StackProfile], None]) -> None:
        self._traces = ProfileBuilder()
        self._whole: StackProfile | None = None
        self._encode = encode

    def write(self, trace: Trace) -> None:
        """Add one trace."""
        self._traces.add(trace)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to be written yet."""
        return self._whole is None and not len(self._traces)

    @property
    def profile(self) -> StackProfile:
        """All that is to be written."""
        return self._traces.profile() if self._whole is None else self._whole

    def write_whole(self, profile: StackProfile) -> None:
        """Take a profile that others have made, instead of traces."""
        self._whole = profile

    def finish(self) -> None:
        """Write the profile. Raises OSError; BrokenPipeError when nobody reads on."""
        with progress("writing the report", interleaved=True):
            self._encode(self.profile)
