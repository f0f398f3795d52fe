"""One live tracing run: resolve, capture, build traces, report, account.

The only place where probe points, a capture back end, the trace builder and a report meet. Owns the limits (hits,
time), Ctrl-C, and the closing account of what was hit, lost and cut short.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

from cfi_tables.layout import StopReason
from ptap.backend.choice import choose_back_end, open_capture
from ptap.backend.live_capture import CaptureLimits, LiveCapture, PlaceKind, Target
from ptap.backend.perf_events.extra_event import ExtraEvent, SamplingEvent, TracepointEvent
from ptap.probe.point import ProbeKind, ProbePoint
from ptap.probe.resolve import ResolvedPlace, Resolver
from relay_reader.capture import RecordsLost, Sample
from unwind.trace import Trace
from unwind.trace_builder import ArgumentFrames, Hit, TraceBuilder


class Report(Protocol):
    """Where traces go."""

    def write(self, trace: Trace) -> None:
        """Show one trace."""


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What was asked for on the command line."""

    back_end: str = "auto"
    arguments: ArgumentFrames = ArgumentFrames.PROBED
    count: int | None = None
    duration: float | None = None
    max_depth: int = 100_000
    user_stack: int = 65_528


@dataclass(slots=True)
class Account:
    """What a run came to."""

    hits: int = 0
    traces: int = 0
    lost: int = 0
    cut_short: Counter[StopReason] = field(default_factory=Counter)
    without_lines: dict[str, str] = field(default_factory=dict)
    """Module path: what would give its lines."""
    kernel_problem: str | None = None


class TraceSession:
    """A run over `points` on `target`. `tell` gets lines for -v."""

    def __init__(
        self,
        points: Sequence[ProbePoint],
        target: Target,
        options: TraceOptions,
        report: Report,
        tell: Callable[[str], None],
    ) -> None:
        self._target = target
        self._options = options
        self._report = report
        self._tell = tell
        self.account = Account()
        resolver = Resolver(target.command, target.pids)
        self._resolved: list[ResolvedPlace] = []
        self._extra: list[tuple[str, ExtraEvent]] = []
        for point in points:
            if point.kind in (ProbeKind.TRACEPOINT, ProbeKind.TIMER):
                self._extra.append((point.text, _extra_event(point)))
            else:
                self._resolved += resolver.resolve(point)
        needs_perf = self._extra[0][0] if self._extra else None
        name, why = choose_back_end(options.back_end, needs_perf)
        tell(f"{len(self._resolved)} places, back end {name}" + (f" (not {why})" if why else ""))
        self._builder = TraceBuilder(options.max_depth, options.arguments)
        self._capture = open_capture(
            name,
            target,
            [each.place for each in self._resolved],
            CaptureLimits(options.user_stack),
            [event for _, event in self._extra],
        )
        self._hits = [self._hit_of(each) for each in self._resolved] + [Hit(text) for text, _ in self._extra]
        self._interrupts = 0

    @staticmethod
    def _hit_of(resolved: ResolvedPlace) -> Hit:
        die = resolved.die
        if resolved.place.kind is PlaceKind.RETURN:
            return Hit(resolved.probe, returned=die)
        return Hit(resolved.probe, die_offset=die.offset if die is not None else None)

    def run(self) -> int:
        """Trace to the end; the exit status for the shell: the command's own, 0 for running processes."""
        capture = self._capture
        previous = signal.signal(signal.SIGINT, self._interrupted)
        timer: threading.Timer | None = None
        try:
            capture.start()
            if self._options.duration is not None:
                timer = threading.Timer(self._options.duration, capture.stop)
                timer.daemon = True
                timer.start()
            for event in capture.events():
                if isinstance(event, Sample):
                    if self._hit(event):
                        break
                elif isinstance(event, RecordsLost):
                    self.account.lost += event.count
                else:
                    self._builder.apply(event)
        finally:
            if timer is not None:
                timer.cancel()
            capture.close()
            self._finish_account()
        try:
            return self._wait_for_command(capture)
        finally:
            signal.signal(signal.SIGINT, previous)

    def _hit(self, sample: Sample) -> bool:
        """Report a hit; True when it was the last one asked for."""
        self.account.hits += 1
        for place in sample.places:
            trace = self._builder.build(sample, self._hits[place])
            self.account.traces += 1
            if trace.stop is not StopReason.END_OF_STACK:
                self.account.cut_short[trace.stop] += 1
            self._report.write(trace)
        return self._options.count is not None and self.account.hits >= self._options.count

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += 1
        self._capture.stop()

    def _wait_for_command(self, capture: LiveCapture) -> int:
        """The traced command's exit status as a shell gives it, once it has ended."""
        if capture.child_pid is None:
            return 0
        if capture.exit_status is None:
            if self._interrupts and not _terminal_interrupts_the_command():
                os.kill(capture.child_pid, signal.SIGINT)
            # A second Ctrl-C ends the wait by KeyboardInterrupt.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            status = _wait(capture.child_pid)
        else:
            status = capture.exit_status
        code = os.waitstatus_to_exitcode(status)
        return 128 - code if code < 0 else code

    def _finish_account(self) -> None:
        for module, _ in self._builder.frames_without_lines.most_common():
            missing = module.symbols.missing if module.symbols is not None else None
            text = missing.remedy if missing is not None else module.problem
            if text is not None:
                self.account.without_lines[module.path] = text
        self.account.kernel_problem = self._builder.kernel_problem


def _wait(pid: int) -> int:
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return 0


def _terminal_interrupts_the_command() -> bool:
    """True when Ctrl-C at the terminal reaches the command by itself, being in the foreground with us."""
    try:
        with open("/dev/tty") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _extra_event(point: ProbePoint) -> ExtraEvent:
    if point.kind is ProbeKind.TIMER:
        assert point.frequency is not None
        return SamplingEvent("cpu-clock", point.frequency)
    assert point.tracepoint is not None
    return TracepointEvent(point.tracepoint)
