"""What a benchmark gives: comparisons, each of one figure of ours with one of another tool, as a ratio."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours against theirs. Both figures are medians, in `unit`."""

    what: str
    ours: float
    theirs: float
    unit: str
    higher_is_better: bool
    """True for rates, False for times."""
    note: str = ""
    """What a reader must know: a figure that was extrapolated, a tool that does less."""

    @property
    def ratio(self) -> float:
        """How many times better ours is; below 1 it is worse. 0 where a figure is missing."""
        better, worse = (self.ours, self.theirs) if self.higher_is_better else (self.theirs, self.ours)
        return better / worse if worse else 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """One benchmark's outcome."""

    name: str
    about: str
    comparisons: list[Comparison]
    commands: list[str]
    """What was run, for a reader who wants to repeat it by hand."""
    remarks: list[str]
    """What was left out and why, and other facts of the run."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where benchmarks work and how often they repeat a measurement."""

    folder: Path
    """For programs and recordings; not kept in the repository."""
    rounds: int = 3

    def median(self, measure: Callable[[], float]) -> float:
        """The median of `rounds` measurements."""
        return median(measure() for _ in range(self.rounds))


class Unavailable(Exception):
    """A benchmark cannot run here; the text says what is missing."""
