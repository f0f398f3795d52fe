"""What of a profile `ptap top` shows: which table, over which time, of which thread, narrowed down to what."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from ptap.profile.stack_profile import Thread
from ptap.report.short_text import printable
from ptap.top.sliding_profile import Scope
from ptap.top.table_lines import (
    FUNCTION_TITLE,
    STACK_TITLE,
    THREAD_TITLE,
    Order,
    TableLine,
    function_lines,
    function_text,
    functions_with,
    matcher,
    stack_lines,
    thread_lines,
)
from ptap.top.tally import Stack

if TYPE_CHECKING:
    from ptap.top.sliding_profile import SlidingProfile


class Table(Enum):
    """The tables there are, with their columns' titles."""

    FUNCTIONS = FUNCTION_TITLE
    STACKS = STACK_TITLE
    THREADS = THREAD_TITLE


@dataclass(slots=True)
class Selection:
    """What was chosen so far."""

    table: Table = Table.FUNCTIONS
    scope: Scope = Scope.WINDOW
    order: Order = Order.OWN
    thread: Thread | None = None
    """Whose samples; None for all threads."""
    function: int | None = None
    """Stacks with this function only, by its index."""
    words: str = ""
    """Lines with these words only."""
    opened: set[Stack] = field(default_factory=set)
    """Stacks whose frames are shown."""

    def lines(self, profile: SlidingProfile, frequency: int) -> list[TableLine]:
        """The table."""
        if self.table is Table.THREADS:
            lines = thread_lines(profile, self.scope, frequency)
            wanted = matcher(self.words)
            return [line for line in lines if wanted(line.text)]
        tally = profile.tally(self.scope, self.thread)
        named = functions_with(profile, matcher(self.words)) if self.words else None
        if self.table is Table.FUNCTIONS:
            return function_lines(profile, tally, self.order, only=named)
        within = [named] if named is not None else []
        if self.function is not None:
            within.append(frozenset((self.function,)))
        return stack_lines(profile, tally, within=within, opened=self.opened)

    def description(self, profile: SlidingProfile) -> str:
        """What was chosen, beyond the time, in words."""
        parts = [self.table.name.lower()]
        if self.table is Table.FUNCTIONS:
            parts[0] += f" by {self.order.value}"
        if self.table is Table.STACKS and self.function is not None:
            parts[0] += f" with {function_text(profile.functions[self.function])}"
        if self.thread is not None and self.table is not Table.THREADS:
            parts.append(f"thread {printable(self.thread.comm)} {self.thread.tid}")
        if self.words:
            parts.append(f"only “{printable(self.words)}”")
        return ", ".join(parts)

    def open(self, subject: object) -> None:
        """Go on from a line: a function's stacks, a stack's frames (or none of them), a thread's functions."""
        if isinstance(subject, Thread):
            self.thread, self.table, self.words = subject, Table.FUNCTIONS, ""
        elif isinstance(subject, int):
            self.function, self.table, self.words = subject, Table.STACKS, ""
        elif isinstance(subject, tuple):
            self.opened.discard(subject[0])
        elif isinstance(subject, Stack):
            self.opened ^= {subject}

    def widen(self) -> bool:
        """Take the last narrowing back; False when there is none."""
        if self.words:
            self.words = ""
        elif self.table is Table.STACKS and self.function is not None:
            self.function, self.table = None, Table.FUNCTIONS
        elif self.thread is not None:
            self.thread, self.table = None, Table.THREADS
        else:
            return False
        return True
