"""The report of a core file: every thread's stack with its values, and what could not be read.

The place where a core file, the trace builder and a report meet, as `ptap.trace_session` is for live runs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from cfi_tables.elf_image import ElfError
from cfi_tables.layout import StopReason
from ptap.account import Account
from ptap.predicate.expression import Predicate
from ptap.predicate.wanted import WantedTraces
from ptap.report.output import OutputError, Report
from ptap.shortcomings import shortcomings
from relay_reader.capture import MappingAdded, Sample
from relay_reader.core_file import CoreFile
from unwind.core_images import REMEDY, CoreImages
from unwind.core_linked_files import ProcessImage, executed_path, linked_files
from unwind.module import ModuleCatalog
from unwind.trace_builder import ArgumentFrames, TraceBuilder

_NO_PROGRAM = "{}: it does not tell which files were mapped: name its program with -e PROGRAM"
_OTHER_PROGRAM = "{}: it does not tell which files were mapped, and {} is not the program that was running"
_MEMORY_REMEDY = "in the core file (it was cut short, or its writer left that out: see core(5), coredump_filter)"


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """What was asked for on the command line."""

    program: str | None = None
    sysroot: str = "/"
    arguments: bool = True
    locals_too: bool = False
    max_depth: int = 100_000
    when: Predicate | None = None
    """Which threads' stacks are wanted; None for all."""


class CoreReport:
    """One core file. Raises CoreFileError and OSError."""

    def __init__(self, path: str, options: CoreOptions) -> None:
        self._account = Account()
        self._wanted = WantedTraces(self._account, options.when)
        self._core = CoreFile(path)
        self._problems: list[str] = []
        images = self._images(options)
        self._catalog = ModuleCatalog(images.open, REMEDY, self._core.layout.machine)
        self._builder = TraceBuilder(
            options.max_depth,
            ArgumentFrames.ALL if options.arguments else ArgumentFrames.NONE,
            locals_too=options.locals_too,
            catalog=self._catalog,
            memory_remedy=_MEMORY_REMEDY,
        )
        self._unidentified: set[str] = set()
        """Paths of files whose build-ids the core file does not hold."""
        self._threads = 0
        self._cut_short: Counter[StopReason] = Counter()

    def _images(self, options: CoreOptions) -> CoreImages:
        core = self._core
        if not core.mapped_files:
            process = ProcessImage(core.read, core.auxiliary_vector, core.layout.word_size)
            path = executed_path(process, options.program)
            if path is None:
                self._problems.append(_NO_PROGRAM.format(core.path))
            else:
                images = CoreImages(core.read, path, options.program, options.sysroot)
                try:
                    files = linked_files(process, path, images.file(path), images.file)
                    if not files:
                        self._problems.append(_OTHER_PROGRAM.format(core.path, options.program or path))
                    core.take_mapped_files(files)
                except (ElfError, OSError) as error:
                    self._problems.append(f"{core.path}: {error}")
        return CoreImages(core.read, core.program, options.program, options.sysroot)

    def run(self, report: Report) -> None:
        """Report every thread, the one that the signal ended first. Raises OutputError, BrokenPipeError."""
        for event in self._core.events():
            if not isinstance(event, Sample):
                self._builder.apply(event)
                if isinstance(event, MappingAdded) and event.mapping.build_id is None:
                    self._unidentified.add(event.mapping.path)
                continue
            trace = self._builder.build(event, None)
            self._threads += 1
            if not self._wanted.is_wanted(trace, event, None):
                continue
            if trace.stop is not StopReason.END_OF_STACK:
                self._cut_short[trace.stop] += 1
            try:
                report.write(trace)
            except BrokenPipeError:
                raise
            except OSError as error:
                raise OutputError(f"traces cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Close the core file."""
        self._core.close()

    def closing_lines(self) -> list[str]:
        """What was missing, and the count of threads last."""
        lines = [
            f"{self._core.path}: {fault.value}" + (f" ({count} times)" if count > 1 else "")
            for fault, count in self._core.faults.items()
        ]
        lines += self._problems
        told = shortcomings(self._builder)
        lines += told
        for module in self._catalog.opened():
            if module.problem is not None and not any(module.problem in line for line in told):
                lines.append(module.problem)
            if module.path in self._unidentified and module.image is not None and module.image.build_id:
                lines.append(
                    f"{module.path}: the core file does not hold its build-id; the file there may be of another build"
                )
        text = f"{self._threads} thread" + ("" if self._threads == 1 else "s")
        if self._account.unwanted is not None:
            text += f", {self._account.unwanted} not wanted, {self._account.undecided} undecided (--when)"
        reasons = ", ".join(f"{count} {reason.name.lower()}" for reason, count in self._cut_short.most_common())
        lines.append(f"{text}, {sum(self._cut_short.values())} cut short" + (f" ({reasons})" if reasons else ""))
        return lines
