"""What a command writes while the screen is taken: it goes into a file without a name, and is shown afterwards."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_SHOWN = 64 << 10


class CommandOutput:
    """Standard output and standard error of a command that is started while `redirected` is entered."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="ptap-")  # noqa: SIM115 (as long as the command writes to it)

    @contextmanager
    def redirected(self) -> Iterator[None]:
        """Our own standard streams are these now: only to start the command in."""
        kept = [os.dup(number) for number in (0, 1, 2)]
        with open(os.devnull, "rb") as nothing:
            try:
                os.dup2(nothing.fileno(), 0)
                os.dup2(self._file.fileno(), 1)
                os.dup2(self._file.fileno(), 2)
                yield
            finally:
                for number, descriptor in enumerate(kept):
                    os.dup2(descriptor, number)
                    os.close(descriptor)

    def show(self, descriptor: int) -> int:
        """Write the end of it to `descriptor`: how many bytes before that are left out. Raises OSError."""
        size = os.fstat(self._file.fileno()).st_size
        left_out = max(size - _SHOWN, 0)
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(os.pread(self._file.fileno(), _SHOWN, left_out))
        return left_out
