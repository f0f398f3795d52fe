"""The lines above the tables of `ptap top`: what is sampled, how much of it was seen, and who takes the processors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ptap.profile.function_table import share
from ptap.report.short_text import printable
from ptap.top.sliding_profile import Scope
from ptap.top.table_lines import heaviest_threads, processor_share

if TYPE_CHECKING:
    from ptap.top.sliding_profile import SlidingProfile

_THREADS_SHOWN = 4
_NOTABLE_LAG_S = 1


@dataclass(frozen=True, slots=True)
class SamplingState:
    """What a session tells of itself."""

    target: str
    frequency: int
    lost: int = 0
    """Samples that there was no room for, since the start."""
    skipped: int = 0
    """Samples that were not looked at, because they were too old when their turn came."""
    lag_s: float = 0.0
    """How old the samples are that are being looked at."""
    ended: bool = False
    """There will be no more samples."""


def scope_text(profile: SlidingProfile, scope: Scope) -> str:
    """The time that tables are of."""
    if scope is Scope.START:
        return f"since the start, {profile.seconds(scope):.0f} s"
    return f"last {profile.window_ns / 1e9:g} s"


def status_lines(profile: SlidingProfile, scope: Scope, state: SamplingState) -> list[str]:
    """Three lines: what is sampled, the counts, the threads."""
    tally, seconds = profile.tally(scope), profile.seconds(scope)
    ended = "  (ended)" if state.ended else ""
    # The target last: it may be long, and what a narrow screen has no room for is its end.
    head = f"{state.frequency} Hz  {scope_text(profile, scope)}{ended}  {printable(state.target)}"
    rate = f" ({tally.samples / seconds:.0f} a second)" if seconds > 0 else ""
    counts = f"{tally.samples} samples{rate}, {state.lost} lost"
    if state.skipped:
        counts += f", {state.skipped} skipped (their turn came too late)"
    if tally.cut:
        counts += f", {share(tally.cut, tally.weight)} cut short"
    if state.lag_s > _NOTABLE_LAG_S and not state.ended:
        counts += f", {state.lag_s:.0f} s behind"
    found = profile.threads(scope)
    shown = heaviest_threads(profile, scope, _THREADS_SHOWN)
    threads = [
        f"{processor_share(tally.weight, state.frequency, seconds)} {printable(thread.comm)} {thread.tid}"
        for thread, tally in shown
    ]
    more = f" … {len(found) - len(shown)} more" if len(found) > len(shown) else ""
    whole = processor_share(tally.weight, state.frequency, seconds) or "0%"
    return [
        head,
        counts,
        f"CPU {whole}" + (": " + ", ".join(threads) + more if threads else ""),
    ]
