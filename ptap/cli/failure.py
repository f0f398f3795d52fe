"""How a command ends when it cannot do what was asked: one message on stderr, status 2, no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click


class Failure(click.ClickException):
    """A message for the user, who can do something about it."""

    exit_code = 2

    def show(self, file: object = None) -> None:
        """Write the message to stderr."""
        click.echo(f"ptap: {self.format_message()}", err=True)


@contextmanager
def told_to_the_user() -> Iterator[None]:
    """Turn the errors that carry a remedy into a Failure; anything else is a defect and keeps its traceback."""
    try:
        yield
    except OSError as error:
        # One that names a file is about what the user named; a bare one is a defect, or a closed output.
        if error.filename is None:
            raise
        raise Failure(f"{error.filename}: {error.strerror}") from error
    except Exception as error:
        if not isinstance(error, _errors_with_remedy()):
            raise
        raise Failure(str(error)) from error


def _errors_with_remedy() -> tuple[type[Exception], ...]:
    """Imported only when something went wrong: it takes longer than many a command."""
    from cfi_tables.build_id_search import BuildIdError
    from cfi_tables.elf_image import ElfError
    from cfi_tables.objtool_rows import ObjtoolError
    from cfi_tables.readelf_rows import ReadelfError
    from cfi_tables.table import TableError
    from ptap.backend.live_capture import CaptureError
    from ptap.kernel_module.build import ModuleBuildError
    from ptap.predicate.parse import PredicateSyntaxError
    from ptap.predicate.program import ProgramError
    from ptap.probe.point import ProbeSyntaxError
    from ptap.probe.program_path import PathNotFound
    from ptap.probe.resolve import ProbeNotFound
    from ptap.report.output import OutputError
    from ptap_target.session_folder import SessionError
    from relay_reader.core_file import CoreFileError
    from relay_reader.module_capture import ModuleCaptureError
    from relay_reader.perf_data import PerfDataError
    from unwind.kernel.kernel_error import KernelError
    from unwind.symbolize.perf_map import PerfMapError
    from unwind.symbolize.symbol_index import SymbolIndexError

    return (
        ElfError,
        TableError,
        ReadelfError,
        ObjtoolError,
        CaptureError,
        ModuleBuildError,
        ModuleCaptureError,
        SessionError,
        ProbeSyntaxError,
        PredicateSyntaxError,
        ProgramError,
        PathNotFound,
        ProbeNotFound,
        OutputError,
        SymbolIndexError,
        BuildIdError,
        KernelError,
        PerfMapError,
        CoreFileError,
        PerfDataError,
    )
