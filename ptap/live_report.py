"""The report of a running process: every thread's stack as it was at one moment, and what could not be had.

The place where a snapshot, its traces and a report meet, as `ptap.core_report` is for core files. Stacks without values
come from what the cache holds where it can be (`unwind.warm_traces`), which takes a fifth of the time; otherwise, and
for all else, from the trace builder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cfi_tables.layout import StopReason
from ptap.account import Account
from ptap.backend.live_capture import CaptureError
from ptap.report.output import OutputError, Report
from ptap.shortcomings import ask_for_remedies, missing_lines
from ptap.snapshot.mapped_files import REMEDY, MappedFiles
from ptap.snapshot.process_snapshot import ProcessSnapshot, SnapshotOptions, take_snapshot
from ptap.snapshot.thread_trace import complete_trace, executable_mappings, sample_of
from unwind.trace import Trace
from unwind.warm_traces import NotWarm, WarmTraces

if TYPE_CHECKING:
    from unwind.module import ModuleCatalog


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What was asked for on the command line."""

    tids: frozenset[int] = frozenset()
    """Of which threads; empty for all."""
    arguments: bool = False
    locals_too: bool = False
    kernel: bool = False
    max_depth: int = 100_000
    when: str | None = None
    """Which threads' stacks are wanted, as a predicate; None for all."""
    warm: bool = True
    """Whether what the cache holds may do; the tests compare."""


@dataclass(slots=True)
class LiveReport:
    """The stacks of process `pid`. Raises CaptureError, PredicateSyntaxError."""

    pid: int
    options: StackOptions
    snapshot: ProcessSnapshot = field(init=False)
    is_warm: bool = False
    """Whether the cache had everything."""
    _account: Account = field(default_factory=Account)
    _cut_short: Counter[StopReason] = field(default_factory=Counter)
    _problems: list[str] = field(default_factory=list)
    _catalog: ModuleCatalog | None = None
    """The modules whose names were read without symbol indices."""

    def __post_init__(self) -> None:
        options = self.options
        if options.when is not None:
            from ptap.predicate.parse import parse_predicate

            parse_predicate(options.when)  # a mistake is told before the process is stopped
        values = options.arguments or options.locals_too
        self.snapshot = take_snapshot(self.pid, SnapshotOptions(options.tids, values, options.kernel))
        if not self.snapshot.threads:
            raise CaptureError(f"process {self.pid} has ended while it was looked at")

    def run(self, report: Report) -> None:
        """Report every thread, the first one first. Raises OutputError, BrokenPipeError."""
        for trace in self._traces():
            if trace.stop is not StopReason.END_OF_STACK:
                self._cut_short[trace.stop] += 1
            try:
                report.write(trace)
            except BrokenPipeError:
                raise
            except OSError as error:
                raise OutputError(f"traces cannot be written: {error.strerror}") from error

    def _traces(self) -> Iterator[Trace]:
        options = self.options
        if options.warm and not (options.arguments or options.locals_too or options.when is not None):
            try:
                found = self._warm_traces()
                self.is_warm = True
                yield from found
                return
            except NotWarm:
                pass
        from ptap.snapshot.built_traces import BuiltTraces, TraceOptions

        built = BuiltTraces(
            self.snapshot,
            TraceOptions(options.arguments, options.locals_too, options.max_depth, options.when),
            self._account,
        )
        if not (options.arguments or options.locals_too):
            self._catalog = built.catalog
        try:
            yield from built.traces()
        finally:
            self._problems = built.problems()

    def keep_names(self) -> None:
        """Keep the names that the cache lacked, so that the next look at these programs is told at once."""
        if self._catalog is not None:
            from ptap.snapshot.name_keeping import keep_names

            keep_names(self._catalog)

    def _warm_traces(self) -> list[Trace]:
        """The traces of all threads by what the cache holds. Raises NotWarm."""
        snapshot = self.snapshot
        files = MappedFiles(snapshot.living, snapshot.rows)
        warm = WarmTraces(files.open, REMEDY, executable_mappings(snapshot), self.options.max_depth)
        traces = []
        for copy in snapshot.threads:
            trace = warm.build(sample_of(snapshot, copy), copy.comm)
            complete_trace(trace, copy, snapshot.kernel_addresses)
            traces.append(trace)
        ask_for_remedies(module.missing for module in warm.frames_without_lines)
        for module, frames in warm.frames_without_lines.most_common():
            missing = module.missing
            if missing is not None:
                self._problems.append(missing_lines(module.path, frames, warm.stacks_without_lines[module], missing))
        return traces

    def closing_lines(self, verbose: bool) -> Iterator[str]:
        """What was missing, how long the process stood still, and the count of threads last."""
        snapshot = self.snapshot
        yield from self._problems
        for tid in snapshot.missing:
            yield f"process {snapshot.pid} has no thread {tid}: it has ended, or the number is wrong"
        if verbose:
            yield f"process {snapshot.pid} stood still for {snapshot.pause_ns / 1e6:.3f} ms"
        count = len(snapshot.threads)
        text = f"{count} thread" + ("" if count == 1 else "s")
        if self._account.unwanted is not None:
            text += f", {self._account.unwanted} not wanted, {self._account.undecided} undecided (--when)"
        reasons = ", ".join(f"{number} {reason.name.lower()}" for reason, number in self._cut_short.most_common())
        yield f"{text}, {sum(self._cut_short.values())} cut short" + (f" ({reasons})" if reasons else "")
