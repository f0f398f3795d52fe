"""`ptap symbolize` of logs: text on standard input or in files, with the frames in it told."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO

import click

from unwind.kernel.kernel_symbolizer import KernelSources

if TYPE_CHECKING:
    from ptap.text_log.log_reader import LogReader


def symbolize_logs(paths: tuple[str, ...], sources: KernelSources, sysroot: str, as_json: bool) -> None:
    """Write the logs at `paths`, or standard input, to standard output. Raises ElfError and OSError."""
    from ptap.text_log.file_source import FileSources
    from ptap.text_log.kernel_source import KernelSource
    from ptap.text_log.log_reader import LogReader

    files, kernel = FileSources(sysroot), KernelSource(sources)
    notes: dict[str, None] = {}
    with ExitStack() as opened:
        descriptors = [opened.enter_context(open(path, "rb", buffering=0)).fileno() for path in paths] or [0]
        try:
            for descriptor in descriptors:
                reader = LogReader(files, kernel)
                try:
                    symbolize_log(reader, descriptor, sys.stdout.buffer, as_json)
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
        for line in reader.read(batch):
            if as_json:
                output.writelines(each.encode("utf-8", "backslashreplace") for each in traces.add(line))
            else:
                output.write(rewritten(line))
        output.flush()
    output.writelines(each.encode("utf-8", "backslashreplace") for each in traces.finish())
    output.flush()
