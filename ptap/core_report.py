"""The report of a core file: every thread's stack with its values, and what could not be read.

The place where a core file, the trace builder and a report meet, as `ptap.trace_session` is for live runs.
"""

from __future__ import annotations

from collections.abc import Iterator

from cfi_tables.elf_image import ElfError
from ptap.capture_report import EventReport, ReportOptions
from ptap.report.output import Report
from relay_reader.capture import Event, MappingAdded
from relay_reader.core_file import CoreFile
from unwind.core_images import REMEDY, CoreImages
from unwind.core_linked_files import ProcessImage, executed_path, linked_files
from unwind.module import ModuleCatalog
from unwind.trace_builder import TraceBuilder

_NO_PROGRAM = "{}: it does not tell which files were mapped: name its program with -e PROGRAM"
_OTHER_PROGRAM = "{}: it does not tell which files were mapped, and {} is not the program that was running"
_MEMORY_REMEDY = "in the core file (it was cut short, or its writer left that out: see core(5), coredump_filter)"


class CoreReport:
    """One core file. Raises CoreFileError and OSError."""

    def __init__(self, path: str, options: ReportOptions) -> None:
        self._core = CoreFile(path)
        self._problems: list[str] = []
        images = self._images(options)
        self._catalog = ModuleCatalog(images.open, REMEDY, self._core.layout.machine)
        builder = TraceBuilder(
            options.max_depth,
            options.argument_frames,
            locals_too=options.locals_too,
            catalog=self._catalog,
            memory_remedy=_MEMORY_REMEDY,
        )
        self._report = EventReport(builder, options.when)
        self._unidentified: set[str] = set()
        """Paths of files whose build-ids the core file does not hold."""

    def _images(self, options: ReportOptions) -> CoreImages:
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

    def write(self, report: Report) -> None:
        """Report every thread, the one that the signal ended first. Raises OutputError, BrokenPipeError."""
        self._report.write(self._events(), report)

    def _events(self) -> Iterator[Event]:
        for event in self._core.events():
            if isinstance(event, MappingAdded) and event.mapping.build_id is None:
                self._unidentified.add(event.mapping.path)
            yield event

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
        lines += self._report.module_problems()
        for module in self._catalog.opened():
            if module.path in self._unidentified and module.image is not None and module.image.build_id:
                lines.append(
                    f"{module.path}: the core file does not hold its build-id; the file there may be of another build"
                )
        account = self._report.account
        text = f"{account.hits} thread" + ("" if account.hits == 1 else "s")
        if account.unwanted is not None:
            text += f", {account.unwanted} not wanted, {account.undecided} undecided (--when)"
        reasons = ", ".join(f"{count} {reason.name.lower()}" for reason, count in account.cut_short.most_common())
        lines.append(f"{text}, {sum(account.cut_short.values())} cut short" + (f" ({reasons})" if reasons else ""))
        return lines
