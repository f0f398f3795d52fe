"""How `ptap top` shows a session: tables one after the other, or a view that the user leaves; then what is left."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from ptap.report.output import OutputError
from ptap.top.plain_text import write_functions
from ptap.top.sliding_profile import LONGEST_WAIT_S, Scope
from ptap.top.table_lines import Order

if TYPE_CHECKING:
    from ptap.top.session import TopSession
    from ptap.top.sliding_profile import SlidingProfile


@dataclass(frozen=True, slots=True)
class ShowOptions:
    """What was asked for on the command line."""

    delay: float
    """Seconds between two looks."""
    order: Order
    rows: int
    """Functions in a printed table."""
    iterations: int | None = None
    """Tables to print; None: until the end."""


def print_tables(session: TopSession, profile: SlidingProfile, stream: TextIO, options: ShowOptions) -> None:
    """Print a table of the window after each delay. Raises OutputError, BrokenPipeError."""
    printed = 0
    while not session.ended.is_set() and (options.iterations is None or printed < options.iterations):
        _collect_for(options.delay, session, profile)
        _print(session, profile, Scope.WINDOW, stream, options)
        printed += 1


def _collect_for(seconds: float, session: TopSession, profile: SlidingProfile) -> None:
    """Add up what comes for so long, or until nothing more does: traces that wait take more memory than their sums."""
    begin = time.monotonic()
    while (left := begin + seconds - time.monotonic()) > 0 and not session.ended.wait(min(left, LONGEST_WAIT_S)):
        profile.take(session)


def show_view(session: TopSession, profile: SlidingProfile, options: ShowOptions) -> None:
    """Show the view until the user leaves it, or a signal asks for an end."""
    from ptap.top.view import TopView

    view = TopView(session, profile, options.delay)
    view.selection.order = options.order
    view.run()


def print_result(session: TopSession, profile: SlidingProfile, stream: TextIO, options: ShowOptions) -> None:
    """Print the functions since the start, when the session is finished. Raises OutputError, BrokenPipeError."""
    _print(session, profile, Scope.START, stream, options)


def _print(session: TopSession, profile: SlidingProfile, scope: Scope, stream: TextIO, options: ShowOptions) -> None:
    """Add up what is new, and print a table."""
    state = session.state()
    profile.take(session)
    try:
        write_functions(stream, profile, scope, state, options.order, options.rows)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"tables cannot be written: {error.strerror}") from error
