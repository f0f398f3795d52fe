"""Quicker walks for a run that needs them: their machine code is made by another process, while sampling goes on.

It takes seconds, once for all later runs; here it would take them from the walks that are too slow already.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from unwind.quick_walk import is_made

if TYPE_CHECKING:
    from unwind.quick_walk import QuickTraceBuilder

_MAKE = "import sys; from unwind.quick_walk import make; sys.exit(not make())"

_LEAST_PRIORITY = 19


class Hastening:
    """Has `builder` walk in machine code: at once where that is kept from before, else when it is asked to."""

    def __init__(self, builder: QuickTraceBuilder) -> None:
        self._builder = builder
        self._maker: subprocess.Popen[bytes] | None = None
        self._ending = False
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Use the machine code that is there."""
        if is_made():
            self.ask()

    def ask(self) -> None:
        """See to it in a thread of its own, once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ptap-top-hastening", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Leave it where it is not done yet."""
        self._ending = True
        if self._maker is not None:
            self._maker.kill()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        if not is_made():
            nothing = subprocess.DEVNULL
            self._maker = subprocess.Popen([sys.executable, "-c", _MAKE], stdin=nothing, stdout=nothing, stderr=nothing)
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._maker.pid, _LEAST_PRIORITY)  # what is watched comes first
            if self._ending:
                self._maker.kill()
            if self._maker.wait():
                return
        self._builder.hasten()
