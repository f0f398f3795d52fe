"""One live tracing run: resolve, capture, build traces, report, account.

The only place where probe points, a capture back end, the trace builder and a report meet. Owns the limits (hits,
time), the early end by a signal or a closed output, and the account of what was hit, lost and cut short.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cfi_tables.layout import StopReason
from ptap.account import Account
from ptap.backend.choice import choose_back_end, choose_kernel_back_end, open_capture
from ptap.backend.live_capture import CaptureError, CaptureLimits, LiveCapture, PlaceKind, Target
from ptap.backend.perf_events.extra_event import (
    ExtraEvent,
    KernelProbeEvent,
    OffCpuEvent,
    SamplingEvent,
    TracepointEvent,
    Wait,
)
from ptap.kernel_module.build import ModuleBuildError
from ptap.kernel_module.kernel_point import KernelPoint
from ptap.predicate.parse import parse_predicate
from ptap.predicate.wanted import WantedTraces
from ptap.probe.point import ProbeKind, ProbePoint, ProbeSyntaxError
from ptap.probe.resolve import ResolvedPlace, Resolver
from ptap.report.output import OutputError, Report
from ptap.shortcomings import shortcomings
from ptap.stop_signals import StopSignals
from ptap.trace_point import TracePoint, point_of_module
from ptap_target.session_folder import SessionError
from relay_reader.capture import Event, RecordsLost, Sample
from unwind.trace import Trace
from unwind.trace_builder import ArgumentFrames, Hit, TraceBuilder

if TYPE_CHECKING:
    from ptap.backend.kernel_module.session import LiveSession
    from ptap.kernel_module.places import KernelPlace
    from ptap.kernel_module.user_place import UserPlace
    from unwind.dwarf.die import Die

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
    when: str | None = None
    """Which traces are wanted, in the words of --when; None for all."""
    innermost_only: bool = False
    """Show the innermost frame, whatever was walked to decide that."""
    off_cpu: bool = False
    """Record the times that threads spend off the processor, too, and weigh every sample by its time."""


class TraceSession:
    """A run over `points` on `target`. `tell` gets a line about what goes on, and whether it is for -v only."""

    _waiting_hits = 1000
    """Hits that there is room for until they are read."""

    def __init__(
        self,
        points: Sequence[TracePoint],
        target: Target,
        options: TraceOptions,
        tell: Callable[[str, bool], None],
    ) -> None:
        self._target = target
        self._options = options
        self._tell = tell
        self.account = Account()
        # The kernel module decides it at the probe, where it can.
        predicate = parse_predicate(options.when) if options.when is not None else None
        self._wanted = WantedTraces(self.account, at_probe=predicate)
        self._hits_shown = 0
        self.started = False
        """Whether anything was armed: there is an account to give."""
        resolver = self._resolver = Resolver(target.command, target.pids)
        self._points = tuple(points)
        self._resolved: list[ResolvedPlace] = []
        self._extra: list[tuple[str, ExtraEvent]] = []
        self._in_kernel = [point for point in points if isinstance(point, KernelPoint)]
        for point in points:
            if isinstance(point, KernelPoint):
                continue
            if point.kind in (ProbeKind.TRACEPOINT, ProbeKind.TIMER):
                self._extra.append((point.text, _extra_event(point, options.off_cpu)))
            else:
                self._resolved += resolver.resolve(point)
        if options.off_cpu:
            self._extra += [(wait.value, OffCpuEvent(wait)) for wait in Wait]
        self._back_end, why = self._choose(points)
        for each in self._resolved:
            tell(f"{each.probe} at {each.place.path}+{each.place.file_offset:#x}", True)
        self._builder = TraceBuilder(options.max_depth, options.arguments)
        self._hits: list[Hit] = []
        """By the numbers in `Sample.places`."""
        self._session: LiveSession | None = None
        tell(f"back end {self._back_end}" + (f" (not {why})" if why else ""), True)
        self._capture = self._open()

    def _choose(self, points: Sequence[TracePoint]) -> tuple[str, str | None]:
        """The back end, and why a better one is not used."""
        asked = self._options.back_end
        if self._in_kernel or asked == "module":
            return choose_kernel_back_end(asked, (self._in_kernel or points)[0].text)
        needs_perf = self._extra[0][0] if self._extra else None
        only_samples = all(isinstance(event, (SamplingEvent, OffCpuEvent)) for _, event in self._extra)
        return choose_back_end(asked, needs_perf, only_samples=only_samples and not self._resolved)

    def _open(self) -> LiveCapture:
        """The capture, not yet started. Raises what its preparation raises."""
        if self._back_end == "module":
            try:
                return self._open_module()
            except (CaptureError, ModuleBuildError, ProbeSyntaxError) as error:
                if self._options.back_end != "auto":
                    raise
                self._without_module(error)
        return self._open_perf_or_ptrace()

    def _open_module(self) -> LiveCapture:
        from ptap.backend.kernel_module.session import make_session
        from ptap.kernel_module.messages import RecordOptions
        from relay_reader.record_layout import MAXIMUM_FRAMES, Slices

        # Arguments of programs lie in their frames.
        with_arguments = self._resolved and self._options.arguments is not ArgumentFrames.NONE
        options = RecordOptions(
            maximum_frames=min(self._options.max_depth, MAXIMUM_FRAMES),
            slices=Slices.FRAMES if with_arguments else Slices.WORDS,
        )
        session = self._session = make_session(
            *([point_of_module(point) for point in self._points], options, self._target, self._options.when),
            tell=lambda text: self._tell(text, False),
            resolver=self._resolver,
        )
        session.prepare(self._builder)
        for place in session.places:
            self._tell(f"{place.name} at {place.reached}", True)
        self._hits = [_hit_of_place(each) for each in session.places]
        return session.capture(self._target, lambda text: self._tell(text, True), self._limits().postponement)

    def _open_perf_or_ptrace(self) -> LiveCapture:
        extra = list(self._extra)
        if self._in_kernel:
            from ptap.backend.perf_events.kernel_places import KernelPlaces

            extra += [(event.name, event) for event in KernelPlaces().events(self._in_kernel)]
        self._hits = [self._hit_of(each) for each in self._resolved]
        self._hits += [
            Hit(
                text,
                is_return=isinstance(event, KernelProbeEvent) and event.is_return,
                weight_unit="ns" if _weighs_time(event) else "",
            )
            for text, event in extra
        ]
        return open_capture(
            self._back_end,
            self._target,
            [each.place for each in self._resolved],
            self._limits(),
            [event for _, event in extra],
        )

    def _limits(self) -> CaptureLimits:
        return CaptureLimits(self._options.user_stack, self._waiting_hits)

    def _without_module(self, error: Exception) -> None:
        """Go on with perf events, which was left open what to use."""
        self._tell(f"the kernel module cannot be used, perf events are: {error}", False)
        self._back_end, _ = choose_kernel_back_end("perf", self._in_kernel[0].text)

    @staticmethod
    def _hit_of(resolved: ResolvedPlace) -> Hit:
        return _hit_at(resolved.probe, resolved.die, resolved.place.kind is PlaceKind.RETURN)

    def run(self, report: Report) -> int:
        """Trace to the end; the exit status for the shell: the command's own, 0 for running processes."""
        with StopSignals(lambda: self._capture.stop()) as signals:
            try:
                self._start()
                self.started = True
                self._follow(self._capture, report)
            finally:
                self._capture.close()
                self._finish_account()
            return self._wait_for_command(self._capture, signals)

    def _start(self) -> None:
        """Start the capture, or one by perf events where the kernel will not have the module."""
        try:
            self._capture.start()
        except SessionError as error:
            if self._options.back_end != "auto":
                raise
            self._without_module(error)
            self._capture = self._open_perf_or_ptrace()
            self._capture.start()

    def _follow(self, capture: LiveCapture, report: Report) -> None:
        timer: threading.Timer | None = None
        if self._options.duration is not None:
            timer = threading.Timer(self._options.duration, capture.stop)
            timer.daemon = True
            timer.start()
        try:
            for event in capture.events():
                if self._take(event, report):
                    break
        except BrokenPipeError:
            pass  # nobody reads on (`| head`): that is an end like --count
        finally:
            if timer is not None:
                timer.cancel()

    def _take(self, event: Event, report: Report) -> bool:
        """Do with an event what this run is for; True when it was the last one asked for."""
        if isinstance(event, Sample):
            return self._hit(event, report)
        if isinstance(event, RecordsLost):
            self.account.lost += event.count
        else:
            self._builder.apply(event)
        return False

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


def _hit_at(probe: str, die: Die | None, is_return: bool) -> Hit:
    """A hit in a program."""
    if is_return:
        return Hit(probe, returned=die, is_return=True)
    return Hit(probe, die_offset=die.offset if die is not None else None)


def _hit_of_place(place: KernelPlace | UserPlace) -> Hit:
    from ptap.kernel_module.user_place import UserPlace
    from relay_reader.record_layout import ProbeKind as ModuleProbeKind

    if isinstance(place, UserPlace):
        return _hit_at(place.name, place.die, place.kind is ModuleProbeKind.USER_RETURN)
    return Hit(place.name, is_return=place.point.kind is ProbeKind.RETURN)


def _keep_innermost(trace: Trace) -> None:
    """Leave of the user's frames the innermost one, with the calls that are inlined in it."""
    for index, frame in enumerate(trace.frames):
        if frame.space == "user" and not frame.inlined:
            if index + 1 < len(trace.frames):
                del trace.frames[index + 1 :]
                trace.stop, trace.stop_text = StopReason.TOO_DEEP, None
            return


def _weighs_time(event: ExtraEvent) -> bool:
    return isinstance(event, OffCpuEvent) or (isinstance(event, SamplingEvent) and event.weighs_time)


def _extra_event(point: ProbePoint, weighs_time: bool) -> ExtraEvent:
    if point.kind is ProbeKind.TIMER:
        assert point.frequency is not None
        return SamplingEvent("cpu-clock", point.frequency, weighs_time)
    assert point.tracepoint is not None
    return TracepointEvent(point.tracepoint)
