"""The report of a file, whatever its kind: the one place that knows which class reads which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay_reader.capture_kind import CaptureKind

if TYPE_CHECKING:
    from ptap.capture_report import FileReport, ReportOptions


def open_file_report(kind: CaptureKind, path: str, options: ReportOptions, *, follow: bool = False) -> FileReport:
    """The report of the file at `path`. Raises what the report of its kind raises, and OSError."""
    if kind is CaptureKind.MODULE:
        from ptap.kernel_module.report import CaptureReport

        return CaptureReport(path, options.vmlinux, options.sysroot, options.when, arguments=options.arguments)
    if kind is CaptureKind.CAPTURE:
        from ptap.capture_file_report import CaptureFileReport

        return CaptureFileReport(path, options, follow=follow)
    if kind is CaptureKind.PERF_DATA:
        from ptap.perf_report import PerfReport

        return PerfReport(path, options)
    from ptap.core_report import CoreReport

    return CoreReport(path, options)
