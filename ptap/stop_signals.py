"""The signals that ask a program to end: here they end the capture, and the traced program is left right.

A tracer that simply died would leave breakpoints in the programs it is attached to.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_SENT_BY_TERMINALS = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class StopSignals:
    """While entered, every signal that asks for an end calls `stop`; one that was ignored stays ignored."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self.received: signal.Signals | None = None
        """The first signal that came."""
        self._stop = stop
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopSignals:
        for number in _ASKING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
        self._stop()

    def allow_leaving(self) -> None:
        """From now on, nothing being armed any more, a signal ends this process: Ctrl-C by KeyboardInterrupt."""
        for number in self._previous:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def pass_on(self, pid: int) -> None:
        """Give the signal that came to the command too, unless the terminal gave it to both of us."""
        if self.received is None or (self.received in _SENT_BY_TERMINALS and _in_foreground()):
            return
        try:
            os.kill(pid, self.received)
        except OSError:
            return


def _in_foreground() -> bool:
    """True when this process is in its terminal's foreground group, as the command then is too."""
    try:
        with open("/dev/tty") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
