"""The run behind `ptap top`: it is sampled in a thread of its own, while the main thread shows what came of it.

Starting, ending and the account are those of `ptap.trace_session`; what is new is that each step is asked for, so that
errors are told before the screen is taken, and the end comes when the user leaves.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from ptap.backend.live_capture import Target
from ptap.report.output import Report
from ptap.stop_signals import StopSignals
from ptap.top.hastening import Hastening
from ptap.top.status_lines import SamplingState
from ptap.trace_point import TracePoint
from ptap.trace_session import TraceOptions, TraceSession
from relay_reader.capture import Event, Sample
from unwind.quick_walk import QuickTraceBuilder
from unwind.trace import Trace

_IDLE_NS = 2_000_000_000
"""Without a sample for so long, there is none that waits."""
_SLOW_NS = 1_000_000_000


class TopSession(TraceSession):
    """A run over `points` on `target`. `begin`, then `take` as often as wanted, then `finish`."""

    def __init__(
        self,
        points: Sequence[TracePoint],
        target: Target,
        options: TraceOptions,
        tell: Callable[[str, bool], None],
        *,
        title: str,
        frequency: int,
        longest_lag_s: float | None = None,
    ) -> None:
        """`title` and `frequency` tell what is sampled and how often a second.

        Samples older than `longest_lag_s` when their turn comes are counted, not walked; None: all are walked.
        """
        super().__init__(points, target, options, tell)
        quick = self._builder = QuickTraceBuilder(options.max_depth)
        self._hastening = Hastening(quick)
        self.ended = threading.Event()
        """No more traces will come than those that are there."""
        self.interrupted = False
        """Something other than the user's keys asks for an end."""
        self.begun_ns = 0
        """When the capture began."""
        self._title = title
        self._frequency = frequency
        self._skipped = 0
        self._longest_lag_ns = None if longest_lag_s is None else round(longest_lag_s * 1e9)
        self._lag_ns = 0
        self._busy = False
        self._idle_since_ns = 0
        self._end_ns: int | None = None
        self._leaving = False
        self._traces: deque[Trace] = deque()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._follow_to_the_end, name="ptap-top-session", daemon=True)

    def begin(self) -> None:
        """Start the capture, and to follow it. Raises CaptureError, and what `TraceSession.run` raises."""
        self.begun_ns = time.monotonic_ns()
        try:
            self._start()
        except BaseException:
            self._capture.close()
            raise
        self.started = True
        self._hastening.begin()
        self._thread.start()

    def take(self) -> list[Trace]:
        """The traces that are new since this was last called."""
        found = []
        with suppress(IndexError):
            while True:
                found.append(self._traces.popleft())
        return found

    @property
    def now_ns(self) -> int:
        """The time that the capture has come to: the present, less what it is behind."""
        return self._end_ns if self._end_ns is not None else time.monotonic_ns() - self._behind_ns()

    def state(self) -> SamplingState:
        """How it goes."""
        return SamplingState(
            *(self._title, self._frequency, self.account.lost, self._skipped),
            lag_s=self._behind_ns() / 1e9,
            ended=self.ended.is_set(),
        )

    def stop(self) -> None:
        """End the capture soon; what was captured is still walked. Safe in a signal handler."""
        self.interrupted = True
        self._capture.stop()

    def finish(self, signals: StopSignals, *, leave: bool) -> int:
        """Wait for the end, give the account, and the exit status for the shell. Raises what ended the thread.

        With `leave` the capture is over now, and the command is asked to end as Ctrl-C asks. Samples that still wait
        are walked first where all are to be, else counted as skipped.
        """
        try:
            if leave:
                self._leaving = self._longest_lag_ns is not None
                self._capture.stop()
            self._thread.join()
        finally:
            self._hastening.end()
            self._capture.close()
            self._finish_account()
        if self._failure is not None:
            raise self._failure
        child = self._capture.child_pid
        if leave and child is not None and self._capture.exit_status is None and signals.received is None:
            with suppress(OSError):
                os.kill(child, signal.SIGINT)
        return self._wait_for_command(self._capture, signals)

    def write(self, trace: Trace) -> None:
        """This is where the run's traces go."""
        self._traces.append(trace)

    def _follow_to_the_end(self) -> None:
        try:
            self._follow(self._capture, self)
        except BaseException as error:
            self._failure = error
            self.interrupted = True  # it is told when the screen is free again
        finally:
            self._end_ns = self.now_ns
            self.ended.set()

    def _behind_ns(self) -> int:
        """How old the last sample was when its turn came; nothing once none has come for a while."""
        idle = not self._busy and time.monotonic_ns() - self._idle_since_ns > _IDLE_NS
        return 0 if idle else self._lag_ns

    def _take(self, event: Event, report: Report) -> bool:
        self._busy = True
        try:
            if isinstance(event, Sample) and self._comes_too_late(event):
                self.account.hits += 1
                self._skipped += 1
                return False
            return super()._take(event, report)
        finally:
            self._busy, self._idle_since_ns = False, time.monotonic_ns()

    def _comes_too_late(self, sample: Sample) -> bool:
        """Note how old the sample is now that its turn has come; whether it is to be skipped."""
        self._lag_ns = max(time.monotonic_ns() - sample.time_ns, 0)
        if self._lag_ns > _SLOW_NS:
            self._hastening.ask()
        return self._leaving or (self._longest_lag_ns is not None and self._lag_ns > self._longest_lag_ns)
