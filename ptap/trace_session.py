"""One live tracing run: resolve, capture, build traces, report, account.

The only place where probe points, a capture back end, the trace builder and a report meet. Owns the limits (hits,
time), the early end by a signal or a closed output, and the account of what was hit, lost and cut short.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cfi_tables.layout import StopReason
from ptap.account import Account
from ptap.backend.choice import choose_back_end, open_capture
from ptap.backend.live_capture import CaptureLimits, LiveCapture, PlaceKind, Target
from ptap.backend.perf_events.extra_event import ExtraEvent, SamplingEvent, TracepointEvent
from ptap.predicate.expression import Predicate
from ptap.predicate.wanted import WantedTraces
from ptap.probe.point import ProbeKind, ProbePoint
from ptap.probe.resolve import ResolvedPlace, Resolver
from ptap.report.output import OutputError, Report
from ptap.shortcomings import shortcomings
from ptap.stop_signals import StopSignals
from relay_reader.capture import RecordsLost, Sample
from unwind.trace import Trace
from unwind.trace_builder import ArgumentFrames, Hit, TraceBuilder

_SILENT_WAIT_S = 1.0
"""How long the end of the command is waited for before a line says so."""


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What was asked for on the command line."""

    back_end: str = "auto"
    arguments: ArgumentFrames = ArgumentFrames.PROBED
    count: int | None = None
    duration: float | None = None
    max_depth: int = 100_000
    user_stack: int = 65_528
    when: Predicate | None = None
    """Which traces are wanted; None for all."""
    innermost_only: bool = False
    """Show the innermost frame, whatever was walked to decide that."""


class TraceSession:
    """A run over `points` on `target`. `tell` gets a line about what goes on, and whether it is for -v only."""

    def __init__(
        self,
        points: Sequence[ProbePoint],
        target: Target,
        options: TraceOptions,
        tell: Callable[[str, bool], None],
    ) -> None:
        self._target = target
        self._options = options
        self._tell = tell
        self.account = Account()
        self._wanted = WantedTraces(self.account, options.when)
        self._hits_shown = 0
        self.started = False
        """Whether anything was armed: there is an account to give."""
        resolver = Resolver(target.command, target.pids)
        self._resolved: list[ResolvedPlace] = []
        self._extra: list[tuple[str, ExtraEvent]] = []
        for point in points:
            if point.kind in (ProbeKind.TRACEPOINT, ProbeKind.TIMER):
                self._extra.append((point.text, _extra_event(point)))
            else:
                self._resolved += resolver.resolve(point)
        needs_perf = self._extra[0][0] if self._extra else None
        self._back_end, why = choose_back_end(options.back_end, needs_perf)
        for each in self._resolved:
            tell(f"{each.probe} at {each.place.path}+{each.place.file_offset:#x}", True)
        tell(f"back end {self._back_end}" + (f" (not {why})" if why else ""), True)
        self._builder = TraceBuilder(options.max_depth, options.arguments)
        self._capture = open_capture(
            self._back_end,
            target,
            [each.place for each in self._resolved],
            CaptureLimits(options.user_stack),
            [event for _, event in self._extra],
        )
        self._hits = [self._hit_of(each) for each in self._resolved] + [Hit(text) for text, _ in self._extra]

    @staticmethod
    def _hit_of(resolved: ResolvedPlace) -> Hit:
        die = resolved.die
        if resolved.place.kind is PlaceKind.RETURN:
            return Hit(resolved.probe, returned=die, is_return=True)
        return Hit(resolved.probe, die_offset=die.offset if die is not None else None)

    def run(self, report: Report) -> int:
        """Trace to the end; the exit status for the shell: the command's own, 0 for running processes."""
        capture = self._capture
        with StopSignals(capture.stop) as signals:
            try:
                capture.start()
                self.started = True
                self._follow(capture, report)
            finally:
                capture.close()
                self._finish_account()
            return self._wait_for_command(capture, signals)

    def _follow(self, capture: LiveCapture, report: Report) -> None:
        timer: threading.Timer | None = None
        if self._options.duration is not None:
            timer = threading.Timer(self._options.duration, capture.stop)
            timer.daemon = True
            timer.start()
        try:
            for event in capture.events():
                if isinstance(event, Sample):
                    if self._hit(event, report):
                        break
                elif isinstance(event, RecordsLost):
                    self.account.lost += event.count
                else:
                    self._builder.apply(event)
        except BrokenPipeError:
            pass  # nobody reads on (`| head`): that is an end like --count
        finally:
            if timer is not None:
                timer.cancel()

    def _hit(self, sample: Sample, report: Report) -> bool:
        """Report a hit; True when it was the last one asked for."""
        self.account.hits += 1
        shown = False
        for place in sample.places:
            hit = self._hits[place]
            trace = self._builder.build(sample, hit)
            if not self._wanted.is_wanted(trace, sample, hit):
                continue
            if self._options.innermost_only:
                _keep_innermost(trace)
            try:
                report.write(trace)
            except BrokenPipeError:
                raise
            except OSError as error:
                raise OutputError(f"traces cannot be written: {error.strerror}") from error
            self.account.traces += 1
            if trace.stop is not StopReason.END_OF_STACK:
                self.account.cut_short[trace.stop] += 1
            shown = True
        self._hits_shown += shown
        return self._options.count is not None and self._hits_shown >= self._options.count

    def _wait_for_command(self, capture: LiveCapture, signals: StopSignals) -> int:
        """The traced command's exit status as a shell gives it, once it has ended."""
        if capture.child_pid is None:
            return 0
        status = capture.exit_status
        if status is None:
            signals.pass_on(capture.child_pid)
            signals.allow_leaving()
            waiting = threading.Timer(
                _SILENT_WAIT_S,
                self._tell,
                (
                    f"tracing has stopped; waiting for {self._target.command[0]} (process {capture.child_pid}) to end",
                    False,
                ),
            )
            waiting.daemon = True
            waiting.start()
            try:
                status = capture.wait_for_command()
            finally:
                waiting.cancel()
        code = os.waitstatus_to_exitcode(status) if status is not None else 0
        return 128 - code if code < 0 else code

    def _finish_account(self) -> None:
        problems = self.account.problems
        problems += self._capture.shortcomings()
        problems += shortcomings(self._builder)


def _keep_innermost(trace: Trace) -> None:
    """Leave of the user's frames the innermost one, with the calls that are inlined in it."""
    for index, frame in enumerate(trace.frames):
        if frame.space == "user" and not frame.inlined:
            if index + 1 < len(trace.frames):
                del trace.frames[index + 1 :]
                trace.stop, trace.stop_text = StopReason.TOO_DEEP, None
            return


def _extra_event(point: ProbePoint) -> ExtraEvent:
    if point.kind is ProbeKind.TIMER:
        assert point.frequency is not None
        return SamplingEvent("cpu-clock", point.frequency)
    assert point.tracepoint is not None
    return TracepointEvent(point.tracepoint)
