"""The benchmark harness: from figures to a page, and from a command line to a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.comparison import Bench, Comparison, Result
from bench.results_page import results_page

ROOT = Path(__file__).resolve().parents[2]


def test_page_holds_a_row_for_each_comparison() -> None:
    faster = Comparison("walk", 900.0, 300.0, "frames/s", True, "a | b")
    slower = Comparison("start", 0.8, 0.2, "s", False)
    result = Result("Walks", "About them.", [faster, slower], ["run this"], ["One remark."])
    lines = results_page([("kernel", "6.1")], [result], 3).split("\n")
    assert "| kernel | 6.1 |" in lines
    assert "| walk | **3** | 900 | 300 | frames/s | a / b |" in lines
    assert "| start | **0.25** | 0.8 | 0.2 | s |  |" in lines
    assert lines.index("* One remark.") < lines.index("run this")


def test_missing_figure_gives_no_ratio() -> None:
    assert Comparison("walk", 900.0, 0.0, "frames/s", True).ratio == 0.0
    page = results_page([], [Result("Walks", "", [Comparison("walk", 900.0, 0.0, "frames/s", True)], [], [])], 1)
    assert "| walk | — | 900 | 0 | frames/s |  |" in page


def test_median_of_rounds(tmp_path: Path) -> None:
    figures = iter([9.0, 1.0, 4.0])
    assert Bench(tmp_path, 3).median(lambda: next(figures)) == 4.0
    with pytest.raises(StopIteration):
        next(figures)


def test_unknown_benchmark_is_refused() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "nothing"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no benchmark nothing" in done.stderr
