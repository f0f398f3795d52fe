"""The report of a stream of events: every sample becomes a trace, the wanted ones go to a report, the rest is counted.

The one loop behind `ptap report`, whatever the file is: a core file, perf.data, what the kernel module recorded. Where
events come from and how their files are found is the caller's matter, as `ptap.core_report` shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from cfi_tables.layout import StopReason
from ptap.account import Account
from ptap.report.output import OutputError, Report
from ptap.shortcomings import TraceMaker, shortcomings
from relay_reader.capture import Event, RecordsLost, Sample
from unwind.argument_frames import ArgumentFrames

if TYPE_CHECKING:
    from ptap.predicate.expression import Predicate
    from unwind.trace import Trace
    from unwind.trace_builder import Hit, TraceBuilder

HitsOf: TypeAlias = "Callable[[Sample], Sequence[Hit | None]]"
"""What a sample is a hit of, a trace each; (None,) for a sample that is of no probe."""


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What was asked for on the command line, of any kind of capture."""

    program: str | None = None
    """The program that was running, where it is not at its old place."""
    sysroot: str = "/"
    """Where the files of the machine lie that the capture comes from."""
    vmlinux: str | None = None
    arguments: ArgumentFrames = ArgumentFrames.ALL
    locals_too: bool = False
    max_depth: int = 100_000
    when: Predicate | None = None
    """Which traces are wanted; None for all."""
    verbose: bool = False
    """Whether what did not matter is told at the end, too."""

    @property
    def argument_frames(self) -> ArgumentFrames:
        """Whose arguments are read."""
        return ArgumentFrames.ALL if self.locals_too else self.arguments


class FileReport(Protocol):
    """The report of one kind of file."""

    def write(self, report: Report) -> None:
        """Write every trace. Raises OutputError, BrokenPipeError."""

    def closing_lines(self) -> list[str]:
        """What was missing, and the counts last."""

    def close(self) -> None:
        """Close the file."""


def of_no_probe(_: Sample) -> Sequence[Hit | None]:
    """The hits of a source without probes."""
    return (None,)


class EventReport:
    """Makes the traces of one capture by `builder`; `account` is what it came to.

    `when` tells which traces to show, of those that `at_probe` left where the capture was made with one.
    """

    def __init__(
        self,
        builder: TraceBuilder,
        when: Predicate | None = None,
        at_probe: Predicate | None = None,
        hits: HitsOf = of_no_probe,
    ) -> None:
        from ptap.predicate.wanted import WantedTraces  # with most of the rest, which not every report takes

        self.account = Account()
        self._builder = builder
        self._wanted = WantedTraces(self.account, when, at_probe)
        self._hits = hits

    def write(self, events: Iterable[Event], report: Report) -> None:
        """Write the traces of `events` to their end. Raises OutputError, BrokenPipeError, and what `events` raises."""
        for event in events:
            if isinstance(event, Sample):
                self.account.hits += 1
                for hit in self._hits(event):
                    trace = self._builder.build(event, hit)
                    if self._wanted.is_wanted(trace, event, hit):
                        self._write(trace, report)
            elif isinstance(event, RecordsLost):
                self.account.lost += event.count
            else:
                self._builder.apply(event)

    def _write(self, trace: Trace, report: Report) -> None:
        try:
            report.write(trace)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"traces cannot be written: {error.strerror}") from error
        self.account.traces += 1
        if trace.stop is not StopReason.END_OF_STACK:
            self.account.cut_short[trace.stop] += 1

    def module_problems(self) -> list[str]:
        """What was missing or damaged in the files behind the traces, each thing once."""
        return module_problems(self._builder)


def module_problems(maker: TraceMaker) -> list[str]:
    """What was missing or damaged in the files behind the traces that were made, each thing once."""
    told = shortcomings(maker)
    for module in maker.catalog.opened():
        problem = module.problem
        if problem is not None and not any(problem in line for line in told):
            told.append(problem)
    return told
