"""Traces of a snapshot by the trace builder: with arguments and locals, predicates, code made at run time, damage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cfi_tables.layout import StopReason
from ptap.account import Account
from ptap.predicate.parse import parse_predicate
from ptap.predicate.wanted import WantedTraces
from ptap.shortcomings import shortcomings
from ptap.snapshot.mapped_files import REMEDY, MappedFiles
from ptap.snapshot.process_snapshot import ProcessSnapshot
from ptap.snapshot.stack_extent import LARGEST_UNKNOWN
from ptap.snapshot.thread_trace import complete_trace, executable_mappings, sample_of
from relay_reader.capture import Mapping, MappingAdded, ThreadNamed
from unwind.module import ModuleCatalog
from unwind.pointed_mappings import PointedMappings
from unwind.trace import Trace
from unwind.trace_builder import ArgumentFrames, TraceBuilder

_MEMORY_REMEDY = (
    f"(it is not mapped, or of another stack than the thread's own, of which {LARGEST_UNKNOWN >> 20} MiB are copied)"
)


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What was asked for on the command line of each stack."""

    arguments: bool = False
    locals_too: bool = False
    max_depth: int = 100_000
    when: str | None = None
    """Which threads' stacks are wanted, as a predicate; None for all."""

    @property
    def values(self) -> bool:
        """Whether values of variables are read."""
        return self.arguments or self.locals_too


class BuiltTraces:
    """The traces of one snapshot. Raises PredicateSyntaxError."""

    def __init__(self, snapshot: ProcessSnapshot, options: TraceOptions, account: Account) -> None:
        self._snapshot = snapshot
        self._values = options.values
        self._told: set[Mapping] = set()
        predicate = parse_predicate(options.when) if options.when is not None else None
        self._wanted = WantedTraces(account, predicate)
        self.catalog = ModuleCatalog(MappedFiles(snapshot.living, snapshot.rows).open, REMEDY)
        self._builder = TraceBuilder(
            options.max_depth,
            ArgumentFrames.ALL if options.values else ArgumentFrames.NONE,
            locals_too=options.locals_too,
            catalog=self.catalog,
            memory_remedy=_MEMORY_REMEDY,
            names_made_code=True,
        )

    def traces(self) -> Iterator[Trace]:
        """Those that are wanted, the first thread's first."""
        snapshot = self._snapshot
        mappings = executable_mappings(snapshot)
        pointed = PointedMappings(mappings)
        if self._values:  # which lie in any of them
            self._tell(mappings)
        self._builder.apply(ThreadNamed(snapshot.time_ns, snapshot.pid, snapshot.pid, snapshot.comm))
        for copy in snapshot.threads:
            self._builder.apply(ThreadNamed(snapshot.time_ns, snapshot.pid, copy.tid, copy.comm))
            sample = sample_of(snapshot, copy)
            self._tell(pointed.of(sample))
            counted = self._builder.frames_without_lines.copy(), self._builder.stacks_without_lines.copy()
            trace = self._builder.build(sample, None)
            if trace.stop is StopReason.NO_MAPPING and len(self._told) < len(mappings):
                self._tell(mappings)
                self._builder.frames_without_lines, self._builder.stacks_without_lines = counted
                trace = self._builder.build(sample, None)
            complete_trace(trace, copy, snapshot.kernel_addresses)
            if self._wanted.is_wanted(trace, sample, None):
                yield trace

    def _tell(self, mappings: list[Mapping]) -> None:
        """Let the builder know of mappings, each once."""
        for mapping in mappings:
            if mapping not in self._told:
                self._told.add(mapping)
                self._builder.apply(MappingAdded(self._snapshot.time_ns, self._snapshot.pid, mapping))

    def problems(self) -> list[str]:
        """What the traces lack, each thing once."""
        told = shortcomings(self._builder)
        for module in self.catalog.opened():
            problem = module.problem
            if problem is not None and not any(problem in line for line in told):
                told.append(problem)
        return told
