"""The report of a running process: every thread's stack as it was at one moment, and what could not be had.

The place where a snapshot, the trace builder and a report meet, as `ptap.core_report` is for core files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from cfi_tables.layout import StopReason
from ptap.account import Account
from ptap.backend.live_capture import CaptureError
from ptap.predicate.expression import Predicate
from ptap.predicate.wanted import WantedTraces
from ptap.report.output import OutputError, Report
from ptap.shortcomings import shortcomings
from ptap.snapshot.mapped_files import REMEDY, MappedFiles
from ptap.snapshot.process_snapshot import ProcessSnapshot, SnapshotOptions, ThreadCopy, take_snapshot
from ptap.snapshot.stack_extent import LARGEST_UNKNOWN
from relay_reader.capture import MappingAdded, Sample, StackSlice, ThreadNamed
from unwind.module import ModuleCatalog
from unwind.trace import Trace, TraceFrame
from unwind.trace_builder import ArgumentFrames, TraceBuilder

_MEMORY_REMEDY = (
    f"(it is not mapped, or of another stack than the thread's own, of which {LARGEST_UNKNOWN >> 20} MiB are copied)"
)


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What was asked for on the command line."""

    tids: frozenset[int] = frozenset()
    arguments: bool = False
    locals_too: bool = False
    kernel: bool = False
    max_depth: int = 100_000
    when: Predicate | None = None
    """Which threads' stacks are wanted; None for all."""


class LiveReport:
    """The stacks of one running process. Raises CaptureError."""

    def __init__(self, pid: int, options: StackOptions) -> None:
        self._account = Account()
        self._wanted = WantedTraces(self._account, options.when)
        self.snapshot = take_snapshot(pid, SnapshotOptions(options.tids, options.arguments, options.kernel))
        if not self.snapshot.threads:
            raise CaptureError(_no_threads(self.snapshot))
        self._catalog = ModuleCatalog(MappedFiles(pid, self.snapshot.rows).open, REMEDY)
        self._builder = TraceBuilder(
            options.max_depth,
            ArgumentFrames.ALL if options.arguments else ArgumentFrames.NONE,
            locals_too=options.locals_too,
            catalog=self._catalog,
            memory_remedy=_MEMORY_REMEDY,
            names_made_code=True,
        )
        self._cut_short: Counter[StopReason] = Counter()

    def run(self, report: Report) -> None:
        """Report every thread, the first one first. Raises OutputError, BrokenPipeError."""
        self._tell_process()
        for copy in self.snapshot.threads:
            sample = sample_of(self.snapshot, copy)
            trace = self._builder.build(sample, None)
            complete_trace(trace, copy)
            if not self._wanted.is_wanted(trace, sample, None):
                continue
            if trace.stop is not StopReason.END_OF_STACK:
                self._cut_short[trace.stop] += 1
            try:
                report.write(trace)
            except BrokenPipeError:
                raise
            except OSError as error:
                raise OutputError(f"traces cannot be written: {error.strerror}") from error

    def _tell_process(self) -> None:
        snapshot = self.snapshot
        for row in snapshot.rows:
            if row.executable and row.path != "[vsyscall]":
                self._builder.apply(MappingAdded(snapshot.time_ns, snapshot.pid, row.mapping()))
        self._builder.apply(ThreadNamed(snapshot.time_ns, snapshot.pid, snapshot.pid, snapshot.comm))
        for copy in snapshot.threads:
            self._builder.apply(ThreadNamed(snapshot.time_ns, snapshot.pid, copy.tid, copy.comm))

    def closing_lines(self, verbose: bool) -> Iterator[str]:
        """What was missing, how long the process stood still, and the count of threads last."""
        told = shortcomings(self._builder)
        yield from told
        for module in self._catalog.opened():
            if module.problem is not None and not any(module.problem in line for line in told):
                yield module.problem
        yield from closing_lines(self.snapshot, self._account, self._cut_short, verbose)


def sample_of(snapshot: ProcessSnapshot, copy: ThreadCopy) -> Sample:
    """A thread of a snapshot as a sample of the Capture model."""
    vector_registers = copy.vector_registers
    return Sample(
        time_ns=snapshot.time_ns,
        cpu=-1,
        pid=snapshot.pid,
        tid=copy.tid,
        places=(),
        registers=copy.registers,
        known=copy.known,
        slices=[] if copy.stack is None else [StackSlice(copy.stack[0], bytes(copy.stack[1]))],
        read_memory=snapshot.memory.read,
        read_vector_registers=None if vector_registers is None else lambda: vector_registers,
        # What was not copied may have been written to, but where nothing can be.
        left_to_file=lambda address: False,
    )


def complete_trace(trace: Trace, copy: ThreadCopy) -> None:
    """Add what the walk does not know: the kernel's frames, and why a thread has no stack or not a whole one."""
    trace.frames[:0] = [
        TraceFrame("kernel", 0, frame.module or "[kernel]", function=frame.function, offset=frame.offset)
        for frame in copy.kernel_frames
    ]
    if copy.problem is not None:
        trace.stop_text = copy.problem if trace.stop_text is None or not copy.known else _both(copy, trace.stop_text)


def _both(copy: ThreadCopy, text: str) -> str:
    return f"{copy.problem}; {text}"


def closing_lines(
    snapshot: ProcessSnapshot, account: Account, cut_short: Counter[StopReason], verbose: bool
) -> Iterator[str]:
    """What a snapshot lacks, how long it took, and the count of threads last."""
    for tid in snapshot.missing:
        yield f"process {snapshot.pid} has no thread {tid}: it has ended, or the number is wrong"
    if verbose:
        yield f"process {snapshot.pid} stood still for {snapshot.pause_ns / 1e6:.3f} ms"
    count = len(snapshot.threads)
    text = f"{count} thread" + ("" if count == 1 else "s")
    if account.unwanted is not None:
        text += f", {account.unwanted} not wanted, {account.undecided} undecided (--when)"
    reasons = ", ".join(f"{number} {reason.name.lower()}" for reason, number in cut_short.most_common())
    yield f"{text}, {sum(cut_short.values())} cut short" + (f" ({reasons})" if reasons else "")


def _no_threads(snapshot: ProcessSnapshot) -> str:
    if snapshot.missing:
        listed = ", ".join(map(str, snapshot.missing))
        return f"process {snapshot.pid} has no thread {listed}: `ls /proc/{snapshot.pid}/task` lists those that it has"
    return f"process {snapshot.pid} has ended while it was looked at"
