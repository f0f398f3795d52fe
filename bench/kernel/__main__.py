"""Instructions of a hit and of a frame, in a guest whose time stamp counter ticks once an instruction.

`python -m bench.kernel [RELEASE]` boots one kernel of the lab (tests/kernel) and prints what a probe on vfs_read adds
to a read, by the number of frames that are walked: with addresses only, with the slices that the walk afterwards
needs, and with every address looked up anew ("cold": no address is remembered from hit to hit, but what the few rules
say is). A probe that does nothing, and those in which the kernel's own unwinder walks, are measured beside it; and what
the user's frames add, by the depth of the program's calls. Differences of these are what a part costs. Then comes the
rate of hits that one processor stands (sustained_rate.py), and what a sample costs a busy job (sampled_job.py).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_PAGE = _ROOT / "bench" / "KERNEL.md"
sys.path.insert(0, str(_ROOT / "tests"))

from kernel.guest import run_guest  # noqa: E402
from kernel.kernel_package import debug_vmlinux, kernel_headers, kernel_package  # noqa: E402

from bench.kernel.peer import PEERS, build_peer  # noqa: E402
from bench.kernel.sampled_job import (  # noqa: E402
    POINT,
    SAMPLED,
    SampleCost,
    folder_of,
    perf_folder,
    sample_costs,
    sampled_program,
    sampled_script,
    told_costs,
)
from bench.kernel.sustained_rate import RATED, Sustained, rate_program, rate_script, sustained  # noqa: E402
from cfi_tables.image_file import open_image  # noqa: E402
from ptap.kernel_module.kernel_point import parse_kernel_point  # noqa: E402
from ptap.kernel_module.messages import RecordOptions  # noqa: E402
from ptap.kernel_module.session import write_session  # noqa: E402
from relay_reader.record_layout import Slices  # noqa: E402

_COUNT = 1000
_FRAMES = (1, 2, 3, 4)
"""All that a read has are four, the last one the entry code's."""
_DEPTHS = (0, 8, 16, 24)
"""Calls of the program around its read."""
_COUNTED = ("-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off")


@dataclass(frozen=True, slots=True)
class _Measured:
    hits: dict[tuple[str, int], float]
    """(what is measured, frames or calls) -> instructions a read, with ("none", 0) and those of the peers."""
    rates: list[Sustained]
    samples: list[SampleCost]
    size: int
    """Of the module, bytes."""


def _sessions() -> Iterator[tuple[str, int, RecordOptions]]:
    """(what is measured, frames, the options of its session)."""
    for frames in _FRAMES:
        yield "addresses", frames, RecordOptions(maximum_frames=frames, slices=Slices.NONE, user=False)
        yield "slices", frames, RecordOptions(maximum_frames=frames, user=False)
        cold = RecordOptions(maximum_frames=frames, slices=Slices.NONE, forget=True, user=False)
        yield "cold", frames, cold


def _measure(release: str, folder: Path) -> _Measured:
    """All of it, in one boot."""
    image, headers = open_image(debug_vmlinux(release)), kernel_headers(release)
    points = [parse_kernel_point('kernel.function("vfs_read")')]
    sessions = folder / "sessions"
    for what, frames, options in _sessions():
        write_session(headers, image, points, options, sessions / f"{what}-{frames}")
    build_peer(headers, folder / "peer.ko")
    program = folder / "timed_reads"
    source = Path(__file__).with_name("timed_reads.c")
    flags = ["-O2", "-static", "-fomit-frame-pointer", "-Wl,--build-id"]
    subprocess.run(["gcc", *flags, "-o", str(program), str(source)], check=True)
    write_session(headers, image, points, RecordOptions(), folder / "user", None, [str(program)])
    for what, options in RATED.items():
        write_session(headers, image, points, options, sessions / f"rated-{what}")
    job = sampled_program(folder)
    for what, options in SAMPLED.items():
        timer = [parse_kernel_point(POINT)]
        write_session(headers, image, timer, options, sessions / folder_of(what), None, [str(job)])
    files = {"sessions": sessions, "user": folder / "user", "timed_reads": program, "peer.ko": folder / "peer.ko"}
    files |= {"counted_reads": rate_program(folder), "guest_rate.py": Path(__file__).with_name("guest_rate.py")}
    files |= {"busy_calls": job, "perf": perf_folder(folder)}
    script = _script([f"{what}-{frames}" for what, frames, _ in _sessions()]) + rate_script() + sampled_script()
    run = run_guest(kernel_package(release), files, script, folder, processors=1, options=_COUNTED)
    found = {}
    for path in run.results.glob("*=*"):
        what, count = path.name.split("=")
        found[what, int(count)] = float(path.read_text())
    size = (folder / "user" / "ptap_kernel.ko").stat().st_size
    return _Measured(found, list(sustained(run.results)), list(sample_costs(run.results)), size)


def _script(sessions: list[str]) -> str:
    """What the guest runs: each result is a file WHAT=COUNT."""
    script = f"./timed_reads {_COUNT} > /results/none=0\n"
    for what, arguments in PEERS.items():
        for frames in _FRAMES:
            script += f"insmod ./peer.ko {arguments} room={frames}\n"
            script += f"./timed_reads {_COUNT} > /results/{what}={frames}\nrmmod peer_module\n"
    runner = "python3 {0}/run.pyz {0} -o /results/capture -- ./timed_reads {1} > /results/{2}\n"
    for name in sessions:
        script += runner.format(f"sessions/{name}", _COUNT, name.replace("-", "="))
    for depth in _DEPTHS:
        script += runner.format("user", f"{_COUNT} {depth}", f"user={depth}")
    return script


def _told(measured: _Measured, build: str) -> Iterator[str]:
    """The table, line by line."""
    found = measured.hits
    yield f"module: {measured.size} bytes, without tables"
    bare = found.pop(("none", 0))
    yield (
        f"kernel {build}: a read without a probe takes {bare:.0f} instructions; with one more, by the frames that are "
        f"walked, of which there are {len(_FRAMES)} (user: by the program's calls):"
    )
    for what in dict.fromkeys(name for name, _ in found):
        costs = [(count, found[what, count] - bare) for name, count in sorted(found) if name == what]
        per_frame = (costs[-1][1] - costs[0][1]) / (costs[-1][0] - costs[0][0])
        told = "  ".join(f"{count}: {cost:6.0f}" for count, cost in costs)
        yield f"  {what:18}  {told}   {per_frame:6.0f} a frame"
    yield "hits a second with the collector reading, by the guest's clock, which has 10^9 instructions a second:"
    for rate in measured.rates:
        counts = f"{rate.hits:,} hits, {rate.records:,} records, {rate.lost} lost"
        yield f"  {rate.what:18}  {rate.hits_per_second:,.0f} a second: {counts}"
    yield from told_costs(measured.samples)


def main() -> None:
    """Print the table; with --page, write it to bench/KERNEL.md, too."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--page"]
    release = arguments[0] if arguments else "6.1"
    with tempfile.TemporaryDirectory(prefix="ptap-bench-") as folder:
        lines = list(_told(_measure(release, Path(folder)), kernel_package(release).build))
    print("\n".join(lines))
    if "--page" in sys.argv:
        indented = "\n".join(f"    {line}" for line in lines)
        _PAGE.write_text(f"# Cost of a kernel probe\n\nWritten by `make bench-kernel`.\n\n{indented}\n")


if __name__ == "__main__":
    main()
