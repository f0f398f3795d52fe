"""One line on a terminal that tells how a run goes on, written anew twice a second; nothing where nobody looks."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

_PAUSE_S = 0.5
_CLEAR = "\r\x1b[K"


class LiveLine:
    """While it is entered, standard error shows what `text` gives for the seconds since then."""

    def __init__(self, text: Callable[[float], str]) -> None:
        self._text = text
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ptap-live-line", daemon=True)

    def __enter__(self) -> LiveLine:
        if sys.stderr is not None and sys.stderr.isatty():
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        begin = time.monotonic()
        while not self._ended.wait(_PAUSE_S):
            sys.stderr.write(_CLEAR + self._text(time.monotonic() - begin))
            sys.stderr.flush()
        sys.stderr.write(_CLEAR)
        sys.stderr.flush()
