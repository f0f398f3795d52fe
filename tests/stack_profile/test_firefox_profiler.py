"""The Firefox format, loaded by the Firefox Profiler itself: threads, functions and weights are those of the traces."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from stack_profile.firefox_profiler import fetched, loaded
from stack_profile.made_traces import frame, profile_of, random_traces, strange_traces, trace, weighed_stacks

from ptap.profile.firefox import write_firefox

TRACES = {
    "random": lambda: list(random_traces(400)),
    # Of one thread: the profiler is asked about each.
    "strange": lambda: [replace(each, comm="semi;colon") for each in strange_traces()],
    "one": lambda: [trace([frame("inner", inlined=True), frame("main")], comm='quote"d \udcff', weight=7)],
    "none": list,
}


@pytest.mark.parametrize("kind", TRACES)
def test_the_firefox_profiler_shows_what_the_traces_say(kind, tmp_path, require_tool):
    node, npm = require_tool("node", "nodejs"), require_tool("npm", "npm")
    profile = profile_of(TRACES[kind]())
    expected: dict[tuple[int, str], Counter[tuple[str, ...]]] = {}
    for thread, names, weight in weighed_stacks(profile):
        shown = tuple(
            name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in names[::-1]
        )
        expected.setdefault((thread.tid, thread.comm.replace("\udcff", "\\xff")), Counter())[shown] += weight
    path = tmp_path / "profile.json"
    with open(path, "w", encoding="utf-8") as stream:
        write_firefox(profile, stream)
    with loaded(node, fetched(npm), path) as found:
        shown_by_firefox = {(each["tid"], each["name"]): found.stacks(each) for each in found.threads()}
    # A profile without threads it does not open: one without samples stands for it.
    assert shown_by_firefox == (expected or {(0, "ptap"): Counter()})
