"""`ptap symbolize` of logs: text on standard input or in files, with the frames in it told."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO

import click

from ptap.cli.output_stream import output_stream
from unwind.kernel.kernel_symbolizer import KernelSources

if TYPE_CHECKING:
    from ptap.text_log.log_reader import LogReader


def symbolize_logs(paths: tuple[str, ...], sources: KernelSources, sysroot: str, as_json: bool) -> None:
    """Write the logs at `paths`, or standard input, to standard output.

    Raises ElfError and OSError for what cannot be opened, OutputError, and BrokenPipeError when nobody reads any more.
    """
    from ptap.text_log.file_source import FileSources
    from ptap.text_log.kernel_source import KernelSource
    from ptap.text_log.log_reader import LogReader

    files, kernel = FileSources(sysroot), KernelSource(sources)
    notes: dict[str, None] = {}
    with output_stream(None) as stream, ExitStack() as opened:
        descriptors = [opened.enter_context(open(path, "rb", buffering=0)).fileno() for path in paths] or [0]
        try:
            for descriptor in descriptors:
                reader = LogReader(files, kernel)
                try:
                    symbolize_log(reader, descriptor, stream.buffer, as_json)
                finally:
                    notes.update(dict.fromkeys(reader.closing_lines()))
        finally:
            for line in notes:
                click.echo(f"ptap: {line}", err=True)


def symbolize_log(reader: LogReader, descriptor: int, output: BinaryIO, as_json: bool) -> None:
    """Write the log that `descriptor` gives to `output`: what is there at once, so that nobody waits for more."""
    from ptap.text_log.log_lines import lines_ahead, read_batches
    from ptap.text_log.log_rewriter import rewritten
    from ptap.text_log.log_traces import LogTraces

    traces = LogTraces(reader)
    reader.look_ahead(lines_ahead(descriptor))
    for batch in read_batches(descriptor):
        if as_json:
            _write(
                output,
                [text.encode("utf-8", "backslashreplace") for line in reader.read(batch) for text in traces.add(line)],
            )
        else:
            _write(output, [rewritten(line) for line in reader.read(batch)])
    _write(output, [text.encode("utf-8", "backslashreplace") for text in traces.finish()])


def _write(output: BinaryIO, pieces: list[bytes]) -> None:
    from ptap.report.output import OutputError

    try:
        output.writelines(pieces)
        output.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"the log cannot be written: {error.strerror}") from error
