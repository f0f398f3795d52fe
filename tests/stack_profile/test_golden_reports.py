"""Reports of a fixed capture stay as they are: what has changed on purpose is written anew (see golden_reports.py)."""

from __future__ import annotations

import json

import pytest
from stack_profile.golden_reports import FOLDER, REPORTS, as_written, fixed_traces


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_the_golden_one(name):
    assert as_written(name) == (FOLDER / name).read_text(encoding="utf-8")


def test_golden_reports_have_all_that_was_captured():
    """What the kept files hold adds up to the traces, so that nobody keeps a wrong one by mistake."""
    whole, count = sum(each.weight for each in fixed_traces()), len(fixed_traces())
    texts = {name: (FOLDER / name).read_text(encoding="utf-8") for name in REPORTS}
    for name in ("tree.txt", "callers.txt", "top.txt", "lines.txt"):
        assert texts[name].startswith(f"{count} samples, weight {whole}\n")
    assert sum(int(line.rsplit(" ", 1)[1]) for line in texts["folded.txt"].splitlines()) == whole
    assert sum(json.loads(line)["weight"] for line in texts["traces.jsonl"].splitlines()) == whole
    assert texts["perf-script.txt"].count("\n\n") == count
    firefox, speedscope = json.loads(texts["firefox.json"]), json.loads(texts["speedscope.json"])
    assert sum(sum(thread["samples"]["weight"]) for thread in firefox["threads"]) == whole
    assert sum(sum(one["weights"]) for one in speedscope["profiles"]) == whole
    assert {path.name for path in FOLDER.iterdir()} == set(REPORTS)
