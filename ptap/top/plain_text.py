"""The tables of `ptap top` on a stream: what --batch prints, and what is left on the terminal in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from ptap.top.status_lines import SamplingState, status_lines
from ptap.top.table_lines import FUNCTION_TITLE, Order, function_lines

if TYPE_CHECKING:
    from ptap.top.sliding_profile import Scope, SlidingProfile


def write_functions(
    stream: TextIO, profile: SlidingProfile, scope: Scope, state: SamplingState, order: Order, rows: int
) -> None:
    """Write the status and the first `rows` functions, and how many there are more. Raises OSError."""
    lines = function_lines(profile, profile.tally(scope), order)
    text = [*status_lines(profile, scope, state), "", FUNCTION_TITLE, *(line.text for line in lines[:rows])]
    if len(lines) > rows:
        text.append(f"{'':>26}… {len(lines) - rows} more functions")
    stream.write("\n".join(text) + "\n\n")
    stream.flush()
