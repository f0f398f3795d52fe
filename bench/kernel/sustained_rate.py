"""Hits a second that one processor stands with the collector reading on it, by the guest's own clock.

Under -icount that clock is exact: each instruction takes a nanosecond, whatever the machine does meanwhile. So it is
the rate of a processor of 10^9 instructions a second, less than any real one has, which makes the hits, writes and
reads the records, and copies them into the capture file (in memory).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ptap.kernel_module.messages import RecordOptions
from relay_reader.capture import Sample
from relay_reader.module_capture import ModuleCapture
from relay_reader.record_layout import Slices

_ROOT = Path(__file__).resolve().parents[2]
_READS = 100_000
_RING_BYTES = 4 << 20
"""Less than a fourth of the records: they are read while they are written, or lost."""
RATED = {
    "addresses": RecordOptions(ring_bytes=_RING_BYTES, slices=Slices.NONE, user=False),
    "slices": RecordOptions(ring_bytes=_RING_BYTES, user=False),
}
"""What a hit records -> the options of its session."""


@dataclass(frozen=True, slots=True)
class Sustained:
    """What came of one run."""

    what: str
    hits_per_second: float
    """The program's own, from its first call to its last."""
    hits: int
    """All: those of other programs, too."""
    records: int
    lost: int


def rate_program(folder: Path) -> Path:
    """The program that makes the hits, built into `folder`: that of the tests of the kernel module."""
    program = folder / "counted_reads"
    source = _ROOT / "tests" / "kernel" / "counted_reads.c"
    subprocess.run(["gcc", "-O2", "-static", "-o", str(program), str(source)], check=True)
    return program


def rate_script() -> str:
    """What the guest runs, with the sessions rated-WHAT, guest_rate.py and counted_reads."""
    script = ""
    for what in RATED:
        command = f"sh -c './counted_reads 0 {_READS} > /results/rated-{what}.told'"
        script += f"python3 guest_rate.py sessions/rated-{what} /results/rated-{what} {command}\n"
    return script


def sustained(results: Path) -> Iterator[Sustained]:
    """What came of it, by the captures and what the program told. Raises ValueError where a run was not whole."""
    for what in RATED:
        pid, calls, taken_ns = map(int, (results / f"rated-{what}.told").read_text().split())
        capture = ModuleCapture(results / f"rated-{what}")
        samples = [event for event in capture.events() if isinstance(event, Sample)]
        own = sum(1 for sample in samples if sample.pid == pid)
        lost = sum(account.dropped + account.missed for account in capture.accounts)
        if calls != _READS or own + lost < calls:
            raise ValueError(f"{what}: of {calls} calls there are {own} records, and {lost} are told lost")
        hits = sum(account.hits for account in capture.accounts)
        yield Sustained(what, calls / taken_ns * 1e9, hits, len(samples), lost)
