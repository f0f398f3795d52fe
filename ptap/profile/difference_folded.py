"""Folded stacks of two profiles: `stack BEFORE AFTER`, which flamegraph.pl draws as a differential flame graph.

The format is that of Brendan Gregg's difffolded.pl; as with its -n, weights before are scaled to those after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from ptap.profile.folded import folded_weights
from ptap.profile.profile_diff import AFTER, BEFORE, no_weight

if TYPE_CHECKING:
    from ptap.profile.profile_diff import ProfileDiff


def write_difference_folded(diff: ProfileDiff, stream: TextIO) -> None:
    """Write a line for each stack that one of the profiles has, sorted."""
    weights: dict[str, list[int]] = {}
    for text, weight in folded_weights(diff.before, diff.renamed_commands):
        weights.setdefault(text, no_weight())[BEFORE] += weight
    for text, weight in folded_weights(diff.after):
        weights.setdefault(text, no_weight())[AFTER] += weight
    scale = diff.scale
    stream.writelines(
        f"{text} {_number(each[BEFORE] * scale)} {each[AFTER]}\n" for text, each in sorted(weights.items())
    )


def _number(weight: float) -> str:
    """A scaled weight: flamegraph.pl reads fractions, and what is small is not to become nothing."""
    return f"{weight:.2f}".rstrip("0").rstrip(".")
