"""What a program has printed of itself, and what addr2line says of its addresses."""

from __future__ import annotations

import io
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ptap.cli.symbolize_log import symbolize_log
from ptap.text_log.file_source import FileSources
from ptap.text_log.kernel_source import KernelSource
from ptap.text_log.log_reader import LogReader
from unwind.kernel.kernel_symbolizer import KernelSources

_HERE = KernelSources()


@dataclass(frozen=True)
class Oracle:
    """addr2line on one file."""

    tool: str
    path: Path

    def frames(self, address: int) -> list[tuple[str, str]]:
        """(function, line) at an address, innermost first."""
        text = subprocess.run(
            [self.tool, "-fiC", "-e", self.path, hex(address)], capture_output=True, text=True, check=True
        ).stdout
        rows = re.sub(r" \(discriminator \d+\)", "", text).splitlines()
        return [(name, place.rpartition(":")[2]) for name, place in zip(rows[::2], rows[1::2], strict=True)]


def told(text: str) -> list[tuple[str, str]]:
    """(function, line) of each line that tells a place: `… in NAME at FILE:LINE`."""
    return re.findall(r" in ([^ ]+) at \S+:(\d+)(?: \[inlined\])?", text)


@dataclass(frozen=True)
class Rewritten:
    """What came of a log."""

    stdout: bytes
    stderr: bytes


def rewrite(
    folder: Path, log: bytes | str | Path, kernel: KernelSources = _HERE, *, sysroot: str = "/", as_json: bool = False
) -> Rewritten:
    """The log as `ptap symbolize` rewrites it, and what it says at its end. Text comes through a pipe's like."""
    reader = LogReader(FileSources(sysroot), KernelSource(kernel))
    output = io.BytesIO()
    if isinstance(log, Path):
        with open(log, "rb") as file:
            symbolize_log(reader, file.fileno(), output, as_json)
    else:
        data = log.encode() if isinstance(log, str) else log
        with tempfile.TemporaryFile(dir=folder) as kept:
            kept.write(data)
            kept.seek(0)
            with subprocess.Popen(["cat"], stdin=kept, stdout=subprocess.PIPE) as through:
                assert through.stdout is not None
                symbolize_log(reader, through.stdout.fileno(), output, as_json)
    return Rewritten(output.getvalue(), "\n".join(reader.closing_lines()).encode())


@dataclass(frozen=True)
class Told:
    """A program and what it has printed, by section."""

    path: Path
    sections: dict[str, str]
