"""Which kind of capture a file is, by its first bytes: the one door for all that read captures.

Owns the list of magic numbers and nothing of the formats behind them; imports next to nothing, as every command asks it
first.
"""

from __future__ import annotations

from enum import Enum
from os import PathLike, fspath

from relay_reader.perf_folder import header_path

MODULE_CAPTURE_MAGIC = b"ptap kernel capture 1\n"
PERF_DATA_MAGIC = b"PERFILE2"
"""Little-endian; tools/perf/Documentation/perf.data-file-format.txt in the Linux tree."""
PERF_DATA_OTHER_MAGICS = {b"2ELIFREP": "on a big-endian machine", b"PERFFILE": "by a perf older than Linux 2.6.39"}
"""What perf.data begins with that is known, and not read; and how it was recorded."""


CAPTURE_FILE_MAGIC = b"\x8fptap\r\n\x1a"
"""Not text, and it shows when a transfer has changed line ends."""


class CaptureKind(Enum):
    """What a file holds."""

    CORE = "core file"
    """An ELF file; or one that is packed, which is looked into where core files are read."""
    MODULE = "capture of the kernel module"
    PERF_DATA = "perf.data file"
    CAPTURE = "capture file"
    UNKNOWN = "file of no known kind"


_MAGICS = (
    (CAPTURE_FILE_MAGIC, CaptureKind.CAPTURE),
    (MODULE_CAPTURE_MAGIC, CaptureKind.MODULE),
    (PERF_DATA_MAGIC, CaptureKind.PERF_DATA),
    *((magic, CaptureKind.PERF_DATA) for magic in PERF_DATA_OTHER_MAGICS),
    (b"\x7fELF", CaptureKind.CORE),
    (b"\x1f\x8b", CaptureKind.CORE),  # gzip
    (b"\x28\xb5\x2f\xfd", CaptureKind.CORE),  # zstd
    (b"\xfd7zXZ\0", CaptureKind.CORE),
    (b"\x04\x22\x4d\x18", CaptureKind.CORE),  # lz4
)

LONGEST_MAGIC = max(len(magic) for magic, _ in _MAGICS)
"""As many bytes tell every kind."""


def kind_of(begin: bytes) -> CaptureKind:
    """The kind of a file that begins with `begin`, LONGEST_MAGIC bytes of it or all that there is."""
    return next((kind for magic, kind in _MAGICS if begin.startswith(magic)), CaptureKind.UNKNOWN)


def kind_of_file(path: str | PathLike[str]) -> CaptureKind:
    """The kind of the file at `path`, or of the folder that `perf record --threads` makes. Raises OSError."""
    with open(header_path(fspath(path)), "rb") as file:
        return kind_of(file.read(LONGEST_MAGIC))


def kind_of_input(path: str) -> CaptureKind:
    """The kind of what a command is to read; "-" is standard input: only perf.data is written into pipes."""
    return CaptureKind.PERF_DATA if path == "-" else kind_of_file(path)
