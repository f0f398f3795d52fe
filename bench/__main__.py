"""`python -m bench [NAME...]`: run the benchmarks and rewrite bench/RESULTS.md.

With names, only these are run and the page holds only these; `--output FILE` writes elsewhere.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from bench.comparison import Bench, Result, Unavailable
from bench.machine import machine
from bench.results_page import results_page

BENCHMARKS = (
    "compact_tables", "bulk_walk", "bulk_lines", "bulk_report", "first_trace", "live_stack", "hit_cost", "profile_cost",
    "symbolization",
    "capture_file",
)  # fmt: skip
"""Modules of this package with a function `run(bench)` that gives a Result, in the order of the page."""


def main() -> int:
    """Run what was asked for; 1 when a benchmark could not run."""
    folder = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--rounds", type=int, default=3, help="runs of each measurement (default: 3)")
    parser.add_argument("--output", type=Path, default=folder / "RESULTS.md", help="where the page goes")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown or options.rounds < 1:
        parser.error(f"no benchmark {', '.join(unknown)}" if unknown else "--rounds takes a positive number")
    bench = Bench(folder / "out", options.rounds)
    bench.folder.mkdir(exist_ok=True)
    results: list[Result] = []
    failed = False
    for name in options.names or BENCHMARKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        module = importlib.import_module(f"bench.{name}")
        try:
            results.append(module.run(bench))
        except Unavailable as why:
            failed = True
            results.append(Result(name, f"Could not run here: {why}", [], [], []))
            print(f"  {why}", file=sys.stderr)
    text = results_page(machine(), results, options.rounds)
    options.output.write_text(text)
    print(text)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
