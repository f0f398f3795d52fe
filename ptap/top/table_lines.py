"""The tables of `ptap top` as lines of text: functions, stacks and threads, the heaviest first.

What a terminal shows and what --batch prints are these lines; each says what it stands for, and how it is coloured.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from heapq import nlargest, nsmallest
from os.path import basename
from typing import TYPE_CHECKING, TypeAlias

from ptap.profile.function_table import share
from ptap.profile.stack_profile import Function, Thread, unnamed
from ptap.report.short_text import printable, short_name
from ptap.top.tally import Stack

if TYPE_CHECKING:
    from ptap.top.sliding_profile import Scope, SlidingProfile
    from ptap.top.tally import Tally

Matcher: TypeAlias = Callable[[str], bool]


class Order(Enum):
    """What functions are sorted by."""

    OWN = "self"
    TOTAL = "total"


class Colour(Enum):
    """How a line is told from others."""

    USER = "user"
    KERNEL = "kernel"
    MARK = "mark"
    """What is no code."""


@dataclass(frozen=True, slots=True)
class TableLine:
    """One line of a table."""

    subject: object
    """What it is about, equal as long as it is the same thing: a function's index, a Stack, a Thread."""
    text: str
    colour: Colour


def matcher(words: str) -> Matcher:
    """Whether a text has these words in it; capitals count when there are some among them."""
    if words == words.lower():
        return lambda text: words in text.lower()
    return lambda text: words in text


FUNCTION_TITLE = f"{'self':>7} {'total':>7} {'samples':>8}    function"


def function_lines(
    profile: SlidingProfile, tally: Tally, order: Order, only: frozenset[int] | None = None
) -> list[TableLine]:
    """A line a function: its own and its total share, its own weight, where it runs, its name and its module.

    `only` are the functions that are shown; None for all.
    """
    own, total, functions = tally.own, tally.total, profile.functions

    def weights(function: int) -> tuple[int, int, str]:
        pair = own.get(function, 0), total[function]
        return -pair[order is Order.TOTAL], -pair[order is Order.OWN], functions[function].name

    lines = []
    for number in sorted(total if only is None else total.keys() & only, key=weights):
        function, itself = functions[number], own.get(number, 0)
        shares = f"{share(itself, tally.weight):>7} {share(total[number], tally.weight):>7} {itself:>8}"
        lines.append(TableLine(number, f"{shares}  {_letter(function)} {function_text(function)}", colour_of(function)))
    return lines


STACK_TITLE = f"{'share':>7} {'samples':>8}    stack, innermost first"
_CALLERS_SHOWN = 4
_MOST_STACKS = 1000
"""There may be very many, of which nobody reads the last; those that are searched for are narrowed down first."""


def stack_lines(
    profile: SlidingProfile, tally: Tally, *, within: Sequence[frozenset[int]] = (), opened: Collection[Stack] = ()
) -> list[TableLine]:
    """A line a stack; those of `opened` have a line a frame below, whose subjects are the stack and the frame's number.

    Only stacks are shown that have a function of each set of `within`.
    """
    chosen = [
        item for item in tally.stacks.items() if not any(functions.isdisjoint(item[0].distinct) for functions in within)
    ]
    lines = []
    for stack, weight in nsmallest(_MOST_STACKS, chosen, key=lambda item: (-item[1], item[0].functions)):
        frames = [profile.functions[number] for number in stack.functions]
        names = " < ".join(_name(frame.name) for frame in frames[:_CALLERS_SHOWN])
        more = f" < … {len(frames) - _CALLERS_SHOWN} more" if len(frames) > _CALLERS_SHOWN else ""
        mark = "-" if stack in opened else "+"
        text = f"{share(weight, tally.weight):>7} {weight:>8}  {mark} {names}{more}"
        lines.append(TableLine(stack, text, colour_of(frames[0])))
        if stack in opened:
            for depth, frame in enumerate(frames):
                text = f"{'':>18}{_letter(frame)} {function_text(frame)}"
                lines.append(TableLine((stack, depth), text, colour_of(frame)))
    if len(chosen) > _MOST_STACKS:
        lines.append(TableLine(None, f"{'':>18}… {len(chosen) - _MOST_STACKS} more stacks", Colour.MARK))
    return lines


def functions_with(profile: SlidingProfile, wanted: Matcher) -> frozenset[int]:
    """The functions whose name or module a text matches."""
    return frozenset(number for number, function in enumerate(profile.functions) if wanted(function_text(function)))


THREAD_TITLE = f"{'CPU':>7} {'samples':>8} {'pid':>8} {'tid':>8}  {'thread':<16} most in"


def thread_lines(profile: SlidingProfile, scope: Scope, frequency: int) -> list[TableLine]:
    """A line a thread: its share of one processor, as `frequency` samples a second of running time tell it."""
    lines = []
    seconds = profile.seconds(scope)
    for thread, tally in heaviest_threads(profile, scope):
        top = max(tally.own, key=lambda function: tally.own[function])
        text = (
            f"{processor_share(tally.weight, frequency, seconds):>7} {tally.samples:>8} {thread.pid:>8} "
            f"{thread.tid:>8}  {printable(thread.comm):<16} {_name(profile.functions[top].name)}"
        )
        lines.append(TableLine(thread, text, Colour.USER))
    return lines


def heaviest_threads(profile: SlidingProfile, scope: Scope, count: int | None = None) -> list[tuple[Thread, Tally]]:
    """The `count` threads that ran most, or all of them."""

    def weight(item: tuple[Thread, Tally]) -> tuple[int, int, int]:
        return item[1].weight, -item[0].pid, -item[0].tid

    threads = profile.threads(scope)
    return sorted(threads, key=weight, reverse=True) if count is None else nlargest(count, threads, key=weight)


def processor_share(weight: int, frequency: int, seconds: float) -> str:
    """Of one processor's time, from samples that are taken so often a second of it; empty before any time went by."""
    return f"{100 * weight / frequency / seconds:.1f}%" if seconds > 0 else ""


def function_text(function: Function) -> str:
    """Name and module."""
    name, module = _name(function.name), function.module
    # Code without a name is called by its module.
    return name if module is None or function.name == unnamed(module) else f"{name}  {printable(basename(module))}"


def colour_of(function: Function) -> Colour:
    """Kernel and user apart."""
    return Colour(function.space) if function.space else Colour.MARK


@lru_cache(maxsize=1 << 16)
def _name(name: str) -> str:
    return printable(short_name(name))


def _letter(function: Function) -> str:
    return function.space[:1] or " "
