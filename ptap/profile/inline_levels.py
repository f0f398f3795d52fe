"""Which stacks of a profile end in inlined calls, by how many of them there are around the innermost one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptap.profile.stack_profile import StackProfile


def inline_levels(profile: StackProfile) -> Iterator[NDArray[np.int64]]:
    """The stacks whose innermost call is inlined into what was called, then those inlined into these, and so on.

    The innermost call counts; one that is inlined into nothing that is in the profile is of the first level.
    """
    inlined = profile.calls.inlined[profile.call_of]
    known = np.append(~inlined, True)  # the last one is that of ROOT
    pending = np.flatnonzero(inlined)
    while len(pending):
        ready = known[profile.parents[pending]]  # something always is: a parent has a lower number
        level, pending = pending[ready], pending[~ready]
        yield level
        known[level] = True
