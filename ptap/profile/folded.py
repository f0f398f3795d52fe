"""Folded stacks: a line for each stack that differs, `comm;outermost;...;innermost WEIGHT`, as flamegraph.pl has them.

The format is that of Brendan Gregg's stackcollapse scripts: `;` parts calls, the last space the weight.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TextIO

from ptap.report.short_text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ptap.profile.stack_profile import StackProfile


def write_folded(profile: StackProfile, stream: TextIO) -> None:
    """Write the profile's lines, sorted."""
    weights = folded_weights(profile)
    stream.writelines(f"{text} {weights[text]}\n" for text in sorted(weights))


def folded_weights(profile: StackProfile, renamed: Mapping[str, str] | None = None) -> Counter[str]:
    """The weight of each stack, as the format has it; commands that are `renamed` by the other name."""
    weights: Counter[str] = Counter()
    texts: dict[tuple[str, int], str] = {}
    samples = profile.samples
    columns = (each.tolist() for each in (samples.stacks, samples.threads, samples.weights))
    for stack, thread, weight in zip(*columns, strict=True):
        comm = profile.threads[thread].comm
        key = renamed.get(comm, comm) if renamed else comm, stack
        text = texts.get(key)
        if text is None:
            calls = (profile.function_of(each).name for each in profile.path(stack))
            text = texts[key] = ";".join(folded_name(name) for name in (key[0], *reversed([*calls])))
        weights[text] += weight
    return weights


def folded_name(name: str) -> str:
    """A name as the format can hold it: its separators become what the stackcollapse scripts make of them."""
    return printable(name.replace(";", ":")) or "[unknown]"
