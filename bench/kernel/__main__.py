"""Instructions of a hit and of a frame, in a guest whose time stamp counter ticks once an instruction.

`python -m bench.kernel [RELEASE]` boots one kernel of the lab (tests/kernel) and prints what vfs_read costs with and
without a probe on it, by the number of frames that are walked. Differences of these are what a part costs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_ROOT / "tests"))

from kernel.guest import run_guest  # noqa: E402
from kernel.kernel_package import debug_vmlinux, kernel_headers, kernel_package  # noqa: E402

from cfi_tables.image_file import open_image  # noqa: E402
from ptap.kernel_module.kernel_point import parse_kernel_point  # noqa: E402
from ptap.kernel_module.messages import RecordOptions  # noqa: E402
from ptap.kernel_module.session import write_session  # noqa: E402
from relay_reader.record_layout import Slices  # noqa: E402

_COUNT = 1000
_FRAMES = (1, 2, 3, 4)
_COUNTED = ("-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off")


def _measure(release: str, folder: Path) -> dict[str, float]:
    """Name of a session -> instructions a read."""
    image, headers = open_image(debug_vmlinux(release)), kernel_headers(release)
    points = [parse_kernel_point('kernel.function("vfs_read")')]
    sessions = folder / "sessions"
    for frames in _FRAMES:
        for slices in Slices:
            options = RecordOptions(maximum_frames=frames, slices=slices)
            write_session(headers, image, points, options, sessions / f"{frames}-{slices.name.lower()}")
    program = folder / "timed_reads"
    source = Path(__file__).with_name("timed_reads.c")
    subprocess.run(["gcc", "-O2", "-static", "-o", str(program), str(source)], check=True)
    script = f"./timed_reads {_COUNT} > /results/none\n"
    script += "for each in sessions/*; do name=$(basename $each); python3 $each/run.pyz $each -o /results/capture -- "
    script += f"./timed_reads {_COUNT} > /results/$name; done\n"
    files = {"sessions": sessions, "timed_reads": program}
    run = run_guest(kernel_package(release), files, script, folder, processors=1, options=_COUNTED)
    names = ["none", *(f"{frames}-{slices.name.lower()}" for slices in Slices for frames in _FRAMES)]
    return {name: float((run.results / name).read_text()) for name in names}


def main() -> None:
    """Print the table."""
    release = sys.argv[1] if len(sys.argv) > 1 else "6.1"
    with tempfile.TemporaryDirectory(prefix="ptap-bench-") as folder:
        found = _measure(release, Path(folder))
    bare = found.pop("none")
    print(
        f"kernel {kernel_package(release).build}: a read without a probe takes {bare:.0f} instructions; with one more:"
    )
    for slices in Slices:
        costs = [found[f"{frames}-{slices.name.lower()}"] - bare for frames in _FRAMES]
        per_frame = (costs[-1] - costs[0]) / (_FRAMES[-1] - _FRAMES[0])
        print(
            f"  slices {slices.name.lower():5}  {'  '.join(f'{cost:.0f}' for cost in costs)}   {per_frame:.0f} a frame"
        )


if __name__ == "__main__":
    main()
