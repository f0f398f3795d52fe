"""The report of perf.data: a trace for every sample, named by its event, and what could not be read or found.

A profile, which only needs the traces added up, is made of columns (`ptap.profile.column_profile`) where they can tell
what traces would: it is the same profile, much sooner.
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cfi_tables.table_check import TableError
from ptap.account import Account
from ptap.capture_report import EventReport, ReportOptions, module_problems
from ptap.profile.profile_report import ProfileReport
from ptap.report.output import Report
from ptap.report.trace_filter import FilteredReport, TraceFilter
from relay_reader.capture import Event, MappingAdded, Sample
from relay_reader.perf_data import PerfData
from unwind.kept_jit_names import KeptJitNames, some_left_a_map
from unwind.kernel.recorded_kernel import RecordedKernel
from unwind.module import ModuleCatalog
from unwind.recorded_images import REMEDY, RecordedImages

if TYPE_CHECKING:
    from ptap.profile.column_profile import ColumnProfile
    from ptap.shortcomings import TraceMaker
    from unwind.module import Module
    from unwind.trace_builder import Hit

_MEMORY_REMEDY = "in the recording, which holds registers and the innermost part of the stack only"
_NAMED = 3
_CUT_REMEDY = "record more of it, up to --call-graph dwarf,65528"


@contextmanager
def _without_collection() -> Iterator[None]:
    """Nothing here is left to the collector of cycles, which would go through all objects again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(slots=True)
class _ColumnMaker:
    """What columns tell of what their traces lack: code that was made at run time is not named."""

    catalog: ModuleCatalog
    kernel: RecordedKernel
    frames_without_lines: Counter[Module] = field(default_factory=Counter)
    stacks_without_lines: Counter[Module] = field(default_factory=Counter)
    jit_names: None = None

    @property
    def kernel_problems(self) -> list[str]:
        """Why kernel frames have no names or no lines."""
        return self.kernel.all_problems()


class PerfReport:
    """One perf.data; `path` is "-" for standard input. Raises PerfDataError and OSError."""

    def __init__(self, path: str, options: ReportOptions) -> None:
        self._path = path
        self._options = options
        self._open()

    def _open(self) -> None:
        """Begin with the file; it is read once."""
        options = self._options
        self._perf = PerfData(self._path)
        self._kernel = RecordedKernel(options.vmlinux, options.sysroot, self._perf.features.os_release)
        images = RecordedImages(options.program, options.sysroot, self._kernel.is_running)
        self._catalog = ModuleCatalog(images.open, REMEDY)
        self._account = Account()
        self._maker: TraceMaker = _ColumnMaker(self._catalog, self._kernel)

    def write(self, report: Report) -> None:
        """Write every sample's trace in time order. Raises OutputError, BrokenPipeError, PerfDataError."""
        shown = report.report if isinstance(report, FilteredReport) else report
        if isinstance(shown, ProfileReport) and shown.is_empty and self._fits_columns():
            columns = self._by_columns(report.wanted if isinstance(report, FilteredReport) else TraceFilter())
            if columns is not None:
                shown.write_whole(columns.profile)
                if isinstance(report, FilteredReport):
                    report.left_out += columns.left_out
                return
            self._perf.close()
            self._open()
        from unwind.trace_builder import TraceBuilder  # after all that is left out where columns do

        options = self._options
        self._maker = builder = TraceBuilder(
            options.max_depth,
            options.argument_frames,
            locals_too=options.locals_too,
            catalog=self._catalog,
            memory_remedy=_MEMORY_REMEDY,
            cut_remedy=_CUT_REMEDY,
            kernel_names=self._kernel,
            made_code=KeptJitNames(options.sysroot),
        )
        events = EventReport(builder, options.when, hits=self._hits)
        self._account = events.account
        events.write(self._events(), report)

    def _fits_columns(self) -> bool:
        """Whether columns may know all that is asked for, of a file that can be begun anew if they do not."""
        if self._perf.is_pipe or self._path == "-" or not os.path.isfile(self._path):
            return False
        if self._options.when is not None or self._options.locals_too:
            return False
        from relay_reader.perf_columns import fits_columns  # NumPy comes with it

        return fits_columns(self._perf)

    def _by_columns(self, wanted: TraceFilter) -> ColumnProfile | None:
        """The profile of the samples that are wanted; None where it takes traces to make it."""
        from ptap.profile.column_profile import FIRST_FRAME, ColumnProfile
        from relay_reader.perf_columns import PerfColumns
        from unwind.column_frames import ColumnFrames, OtherWalkError
        from unwind.column_stacks import ColumnWalker
        from unwind.symbolize.symbol_index import SymbolIndexError

        walker = ColumnWalker(self._catalog, self._options.max_depth)
        frames = ColumnFrames(walker, self._kernel, FIRST_FRAME)
        columns = ColumnProfile(frames, wanted, [event.name for event in self._perf.perf_events])
        try:
            with _without_collection():
                for stacks in walker.walk(PerfColumns(self._perf)):
                    columns.add(stacks)
                columns.finish()
        except (OtherWalkError, SymbolIndexError, TableError):
            return None
        pids = {thread.pid for thread in columns.profile.threads}
        if frames.some_in_no_file and some_left_a_map(self._options.sysroot, pids):
            return None  # what is at an address depends on the process, and columns put processes together
        account = self._account
        account.hits = account.traces = columns.samples
        account.lost, account.cut_short = columns.lost, columns.cut_short
        self._maker.frames_without_lines = columns.frames_without_lines
        self._maker.stacks_without_lines = columns.stacks_without_lines
        return columns

    def _events(self) -> Iterator[Event]:
        for event in self._perf.followed(self._perf.events()):
            if isinstance(event, MappingAdded):
                self._kernel.release = self._perf.features.os_release  # in a pipe it comes with the records
            yield event

    def _hits(self, sample: Sample) -> Sequence[Hit | None]:
        """The event that the sample is of."""
        if not sample.places:
            return (None,)
        from unwind.trace_builder import Hit

        return (Hit(self._perf.perf_events[sample.places[0]].name),)

    def closing_lines(self) -> list[str]:
        """What was missing, and the counts last."""
        lines = self._perf.shortcomings() + module_problems(self._maker)
        if self._options.verbose and self._perf.passed_over:
            kinds = ", ".join(f"{count} {name}" for name, count in sorted(self._perf.passed_over.items()))
            lines.append(f"records that tell nothing about stacks: {kinds}")
        return lines + self._identities() + list(self._account.lines(True))

    def _identities(self) -> list[str]:
        """What is to be said of files that were used without knowing that they are those that ran."""
        lines, not_told = [], []
        for module in self._catalog.opened():
            if module.image is None or module.identified or not module.image.build_id or module.path == "[vdso]":
                continue
            told = self._perf.features.build_ids.get(module.path, set())
            if not told:
                not_told.append(module.path)
            elif told != {module.image.build_id}:  # told at the end of a pipe, when the file was in use already
                ran = ", ".join(sorted(each.hex() for each in told))
                used = module.image.build_id.hex()
                lines.append(f"{module.path}: build-id {used} was used, but {ran} was running: its frames may be wrong")
        if not_told:
            more = f" and {len(not_told) - _NAMED} more" if len(not_told) > _NAMED else ""
            lines.append(
                f"the recording does not tell the build-ids of {', '.join(not_told[:_NAMED])}{more}: the files there "
                "may be of other builds (`perf record --buildid-mmap` tells all)"
            )
        return lines

    def close(self) -> None:
        """Close the file."""
        self._perf.close()
