"""One recording: the hits of a live run go into a capture file instead of a report.

Everything up to the first event is a run of `ptap.trace_session`; only what --when has to decide is walked here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from ptap.backend.live_capture import CaptureLimits, PlaceKind, Postponement, Target
from ptap.recording import Recorder
from ptap.report.output import Report
from ptap.trace_point import TracePoint
from ptap.trace_session import TraceOptions, TraceSession
from ptap.version import installed_version
from relay_reader.capture import Event, MappingAdded, RecordsLost, Sample
from relay_reader.capture_file.facts import ProbeFacts, SourceEnd, SourceFacts, this_machine
from relay_reader.capture_file.writer import CaptureWriter
from unwind.trace import Trace


class RecordSession(TraceSession):
    """A run over `points` on `target` that is written to `path`. Raises CaptureWriteError, too."""

    _waiting_hits = 8000
    """Nothing is lost while this process waits for its turn for most of a second, at 10,000 hits a second."""

    def __init__(
        self,
        points: Sequence[TracePoint],
        target: Target,
        options: TraceOptions,
        tell: Callable[[str, bool], None],
        path: str,
        *,
        portable: bool = False,
        postponed: bool = False,
    ) -> None:
        """With `portable` the file holds what stacks are walked with on a machine that has no such files.

        With `postponed` it is written when the capture has ended, where the back end can do so: that costs the target
        less.
        """
        self._postponement = Postponement(self._foresee) if postponed else None
        super().__init__(points, target, options, tell)
        self._path = path
        self._portable = portable
        # Now, while the command waits, rather than while it runs.
        self._version = installed_version()
        self._writer: CaptureWriter | None = None
        self._recorder: Recorder | None = None
        self._recorded = 0

    def record(self) -> int:
        """Record to the end; the exit status for the shell, as that of `run`. Raises OSError, too."""
        existed = os.path.exists(self._path)
        with open(self._path, "ab"):
            pass  # before anything is started that would go on without being recorded
        try:
            return self.run(_NoReport())
        finally:
            if self._writer is None and not existed:
                os.unlink(self._path)

    @property
    def bytes_written(self) -> int:
        """How long the file is."""
        return self._writer.bytes_written if self._writer is not None else 0

    @property
    def progress(self) -> tuple[int, int]:
        """Samples and losses so far."""
        if self._postponement is not None and not self.account.hits:
            return self._postponement.samples, self._postponement.lost
        return self.account.hits, self.account.lost

    def _limits(self) -> CaptureLimits:
        return replace(super()._limits(), postponement=self._postponement)

    def _foresee(self, event: MappingAdded) -> None:
        self._open_recorder().foresee(event)

    def _open_recorder(self) -> Recorder:
        if self._recorder is None:
            # Only now is it settled which back end it is: auto may have gone on with another one.
            self._recorder = Recorder(self._open_file(), self._options.user_stack, portable=self._portable)
        return self._recorder

    def _take(self, event: Event, report: Report) -> bool:
        recorder = self._open_recorder()
        if not isinstance(event, Sample):
            if self._options.when is not None:
                self._builder.apply(event)
            if isinstance(event, RecordsLost):
                self.account.lost += event.count
            recorder.record(event)
            return False
        self.account.hits += 1
        if self._is_wanted(event):
            recorder.record(event)
            self._recorded += 1
        return self._options.count is not None and self._recorded >= self._options.count

    def _is_wanted(self, sample: Sample) -> bool:
        """Whether --when holds, or may hold, for one of the sample's places."""
        if self._options.when is None:
            return True
        wanted = False
        for hit in (self._hits[place] for place in sample.places):
            # Each is asked for, and counted, as each would be a trace.
            wanted |= self._wanted.is_wanted(self._builder.build(sample, hit), sample, hit)
        return wanted

    def _open_file(self) -> CaptureWriter:
        self._writer = CaptureWriter(self._path, [self._facts()], timely=True)
        return self._writer

    def _facts(self) -> SourceFacts:
        return SourceFacts(
            machine=this_machine(),
            writer=f"ptap {self._version}",
            back_end=self._capture.name,
            command=self._target.command,
            pids=self._target.pids,
            probes=tuple(self._probe_facts()),
            when=self._options.when,
            kernel=self._kernel_facts(),
        )

    def _probe_facts(self) -> list[ProbeFacts]:
        """What each number in `Sample.places` stands for."""
        if self._session is not None and self._capture.name == "module":
            return [
                ProbeFacts(hit.probe, hit.is_return, *_place_in_file(place))
                for hit, place in zip(self._hits, self._session.places, strict=True)
            ]
        found = []
        for number, hit in enumerate(self._hits):
            if number < len(self._resolved):
                each = self._resolved[number]
                is_return = each.place.kind is PlaceKind.RETURN
                build_id = self._resolver.build_id(each.place.path)
                offset = each.die.offset if each.die is not None else None
                found.append(ProbeFacts(each.probe, is_return, each.place.path, each.address, build_id, offset))
            else:
                found.append(ProbeFacts(hit.probe, hit.is_return, weight_unit=hit.weight_unit))
        return found

    def _kernel_facts(self) -> dict[str, object] | None:
        if self._session is None or self._capture.name != "module":
            return None
        description = self._session.folder.description
        return {name: description.get(name) for name in ("vmlinux", "build_id", "system_map", "modules")}

    def _finish_account(self) -> None:
        super()._finish_account()
        if self._writer is not None:
            if self._recorder is not None and not self._writer.failed:
                self._recorder.finish()
                self.account.problems += self._recorder.problems
            account = self.account
            self._writer.close([SourceEnd(self._recorded, account.lost, account.problems)])
        elif self.started:
            self._open_file().close([SourceEnd(problems=self.account.problems)])

    def closing_lines(self) -> list[str]:
        """What was missing, and the counts last."""
        lines = list(self.account.lines(False))
        counts = lines[-1].replace(", 0 traces", "")
        # Of a full disk the last chunk is not in the file.
        recorded = self._writer.samples_written if self._writer is not None else 0
        lines[-1] = f"{counts}; {self._path}: {recorded} recorded, {self.bytes_written} bytes"
        return lines


def _place_in_file(place: object) -> tuple[str | None, int | None, str | None, int | None]:
    """Path, address, build-id and die of a place that the kernel module probes; nothing of one in the kernel."""
    from ptap.kernel_module.user_place import UserPlace

    if not isinstance(place, UserPlace):
        return None, None, None, None
    return place.symbol, place.address, place.build_id, place.die.offset if place.die is not None else None


class _NoReport:
    """Where no trace is shown."""

    def write(self, trace: Trace) -> None:
        """Nothing comes here."""
        raise AssertionError(trace)
