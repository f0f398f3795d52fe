"""What a word may become, and which of them are told when there are very many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MOST = 200
"""Candidates that are told to the shell at once: more than anyone reads."""


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """One word that the incomplete one may become."""

    value: str
    whole: bool = True
    """False where the word goes on behind it: no space is to follow, and a quote stays open."""
    meaning: str | None = None
    """A few words that shells show beside it."""


def few(names: Iterable[str]) -> list[str]:
    """At most MOST of `names`, sorted.

    The first and the last one are among them, so what all of them begin with is what all of `names` begin with: shells
    insert that.
    """
    found = sorted(set(names))
    return found if len(found) <= MOST else [*found[: MOST - 1], found[-1]]
