"""Three-valued logic: what is not known stays unknown through it (Kleene's)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ptap.predicate.expression import And, Not, Or, Predicate, Term
from relay_reader.predicate_layout import Comparison, Verdict

_RANK = {Verdict.FALSE: 0, Verdict.UNKNOWN: 1, Verdict.TRUE: 2}
_HOLDS: dict[Comparison, Callable[[int, int], bool]] = {
    Comparison.EQUAL: lambda measured, value: measured == value,
    Comparison.NOT_EQUAL: lambda measured, value: measured != value,
    Comparison.LESS: lambda measured, value: measured < value,
    Comparison.LESS_OR_EQUAL: lambda measured, value: measured <= value,
    Comparison.GREATER: lambda measured, value: measured > value,
    Comparison.GREATER_OR_EQUAL: lambda measured, value: measured >= value,
}


def verdict_of(holds: bool) -> Verdict:
    """What is known to hold, or not to."""
    return Verdict.TRUE if holds else Verdict.FALSE


def opposite(verdict: Verdict) -> Verdict:
    """Its negation."""
    return verdict if verdict is Verdict.UNKNOWN else verdict_of(verdict is Verdict.FALSE)


def both(left: Verdict, right: Verdict) -> Verdict:
    """Their conjunction."""
    return min(left, right, key=_RANK.__getitem__)


def either(left: Verdict, right: Verdict) -> Verdict:
    """Their disjunction."""
    return max(left, right, key=_RANK.__getitem__)


def any_of(verdicts: Iterable[Verdict], whole: bool) -> Verdict:
    """Whether one holds; not `whole`: there may be more than these."""
    found = Verdict.FALSE if whole else Verdict.UNKNOWN
    for each in verdicts:
        if each is Verdict.TRUE:
            return each
        found = either(found, each)
    return found


def compared(least: int, exact: bool, comparison: Comparison, value: int) -> Verdict:
    """Whether a number compares so with `value`; it is `least`, or where that is not `exact`, no less."""
    now = verdict_of(_HOLDS[comparison](least, value))
    if exact:
        return now
    # A greater number changes what holds at the most once, but for (in)equality, which it changes twice.
    settled = {
        Comparison.GREATER: now is Verdict.TRUE,
        Comparison.GREATER_OR_EQUAL: now is Verdict.TRUE,
        Comparison.LESS: now is Verdict.FALSE,
        Comparison.LESS_OR_EQUAL: now is Verdict.FALSE,
    }.get(comparison, least > value)
    return now if settled else Verdict.UNKNOWN


def verdict_on(predicate: Predicate, on_term: Callable[[Term], Verdict]) -> Verdict:
    """The verdict of `predicate`, of whose terms `on_term` tells."""
    if isinstance(predicate, Not):
        return opposite(verdict_on(predicate.part, on_term))
    if isinstance(predicate, And):
        return both(verdict_on(predicate.left, on_term), verdict_on(predicate.right, on_term))
    if isinstance(predicate, Or):
        return either(verdict_on(predicate.left, on_term), verdict_on(predicate.right, on_term))
    return on_term(predicate)
