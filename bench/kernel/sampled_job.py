"""What a sample costs a busy job: by the module's timer, and by `perf record --call-graph dwarf` in the same guest.

Under -icount the guest's clock counts instructions, and there is one processor: what the job's own processor time grows
by is what a sample takes of it, and what its run time grows by is that with all that the recorder does meanwhile. Both
are of the difference between a long job and a short one, so that what is done once does not count.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kernel.initramfs import libraries
from programs.debian_archive import NotInArchive

from ptap.kernel_module.messages import RecordOptions
from relay_reader.record_layout import Slices

_ROOT = Path(__file__).resolve().parents[2]
_FREQUENCY = 999
POINT = f"timer.profile({_FREQUENCY})"
_CALLS = (300, 1200)
"""Of the short job and of the long one, of a millisecond and more."""
SAMPLED = {
    "module, addresses": RecordOptions(slices=Slices.NONE),
    "module, words": RecordOptions(),
    "module, flat": RecordOptions(slices=Slices.FLAT),
}
"""What a sample records -> the options of its session."""
_ALONE, _PERF = "alone", "perf record, 8 KiB"
_TOLD = re.compile(r"busy: ([\d.]+) ([\d.]+) [\d.]+")
"""Seconds: the job's run time, and its own processor time."""


@dataclass(frozen=True, slots=True)
class SampleCost:
    """Of one sample, in instructions."""

    what: str
    own: float
    """That the job does not get on with."""
    whole: float
    """With the recorder's."""
    bytes_kept: float


def folder_of(what: str) -> str:
    """What the session of one of SAMPLED is named in the guest."""
    return re.sub(r"\W+", "-", what)


def sampled_program(folder: Path) -> Path:
    """The job, built into `folder`: that of `make bench`."""
    program = folder / "busy_calls"
    source = _ROOT / "bench" / "programs" / "busy_calls.c"
    flags = ["-O2", "-static", "-fomit-frame-pointer", "-Wl,--build-id"]
    subprocess.run(["gcc", *flags, "-o", str(program), str(source)], check=True)
    return program


def perf_folder(folder: Path) -> Path:
    """perf with its libraries and their loader, copied into one folder. Raises NotInArchive when it is missing."""
    perf = shutil.which("perf")
    if perf is None:
        raise NotInArchive("perf is not installed (Debian: apt install linux-perf)")
    target = folder / "perf"
    target.mkdir()
    for path in (Path(perf), *libraries([Path(perf)])):
        shutil.copy(path, target / path.name)
    loader = next(target.glob("ld-linux*"))
    loader.rename(target / "loader")
    return target


def sampled_script() -> str:
    """What the guest runs, with the sessions of SAMPLED, busy_calls and the folder perf."""
    perf = f"perf/loader --library-path perf perf/perf record -q -B -N -e cpu-clock -F {_FREQUENCY}"
    runs = {_ALONE: "", _PERF: f"{perf} --call-graph dwarf,8192 -o /kept "}
    for what in SAMPLED:
        session = f"sessions/{folder_of(what)}"
        runs[what] = f"python3 {session}/run.pyz {session} -o /kept --only -- "
    script = "./busy_calls 10\n"
    for what, command in runs.items():
        for calls in _CALLS:
            name = f"/results/sampled-{folder_of(what)}-{calls}"
            script += f": > /kept\n{command}./busy_calls {calls} 2> {name}\nwc -c < /kept > {name}.bytes\nrm /kept\n"
    return script


def sample_costs(results: Path) -> Iterator[SampleCost]:
    """What came of it. Raises ValueError where a run has failed."""
    alone_wall, alone_own, _ = _growth(results, _ALONE)
    for what in (_PERF, *SAMPLED):
        wall, own, kept = _growth(results, what)
        samples = _FREQUENCY * wall
        yield SampleCost(what, (own - alone_own) * 1e9 / samples, (wall - alone_wall) * 1e9 / samples, kept / samples)


def told_costs(costs: Iterable[SampleCost]) -> Iterator[str]:
    """The lines of the page."""
    yield (
        f"a job 42 calls deep that is sampled {_FREQUENCY} times a second: instructions a sample that the job loses, "
        "and with the recorder on the same processor; bytes that are kept:"
    )
    for cost in costs:
        counts = f"job: {cost.own:6.0f}  with the recorder: {cost.whole:6.0f}"
        yield f"  {cost.what:18}  {counts}  {cost.bytes_kept:6.0f} bytes"


def _growth(results: Path, what: str) -> tuple[float, float, int]:
    """From the short job to the long one: seconds of run time, of its own processor time, and bytes that were kept."""
    found = []
    for calls in _CALLS:
        path = results / f"sampled-{folder_of(what)}-{calls}"
        said = path.read_text()
        told = _TOLD.search(said)
        if told is None:
            raise ValueError(f"{what}: the job has not told what it took: {said[-300:]}")
        found.append((float(told[1]), float(told[2]), int(path.with_name(f"{path.name}.bytes").read_text())))
    (wall, own, kept), (longer_wall, longer_own, more_kept) = found
    return longer_wall - wall, longer_own - own, more_kept - kept
