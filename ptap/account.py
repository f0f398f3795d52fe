"""What a run came to: counts of hits and losses, and what would make the next run better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from cfi_tables.layout import StopReason


@dataclass(slots=True)
class Account:
    """What a run came to."""

    hits: int = 0
    traces: int = 0
    lost: int = 0
    unwanted: int | None = None
    """Hits of which --when does not hold; None without it."""
    undecided: int = 0
    """Traces of which too little is known to decide that."""
    cut_short: Counter[StopReason] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    """Whole sentences: what was missing or refused, where, and what would mend it."""

    def lines(self, backtrace: bool) -> Iterator[str]:
        """The closing lines, the count of hits last. Stacks are spoken of when `backtrace`."""
        yield from self.problems
        text = ", ".join((counted(self.hits, "hit"), counted(self.traces, "trace")))
        if self.unwanted is not None:
            text += f", {self.unwanted} not wanted, {self.undecided} undecided (--when)"
        text += f", {counted(self.lost, 'record')} lost"
        if backtrace:
            reasons = ", ".join(f"{count} {reason.name.lower()}" for reason, count in self.cut_short.most_common())
            text += f", {sum(self.cut_short.values())} cut short" + (f" ({reasons})" if reasons else "")
        yield text


def counted(count: int, thing: str) -> str:
    """So many of a thing, for people."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
