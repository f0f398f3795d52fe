"""Profile formats: nothing is dropped, every name is escaped, and pprof's own tool reads what is written."""

from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
from collections import Counter

import pytest
from stack_profile.made_traces import (
    BUILD_ID,
    PROGRAM,
    STRANGE,
    frame,
    profile_of,
    random_traces,
    strange_traces,
    trace,
    weighed_stacks,
)

from cfi_tables.layout import StopReason
from ptap.profile.call_tree import write_call_tree
from ptap.profile.firefox import breakpad_id, write_firefox
from ptap.profile.folded import write_folded
from ptap.profile.function_table import function_weights, write_function_table
from ptap.profile.perf_script import PerfScriptReport
from ptap.profile.pprof import write_pprof
from ptap.profile.pprof_schema import profile_message
from ptap.profile.speedscope import write_speedscope
from ptap.profile.stack_profile import StackProfile


def text_of(write, profile, **options) -> str:
    stream = io.StringIO()
    write(profile, stream, **options)
    # What a file gets: text that UTF-8 cannot hold would be an error here.
    return stream.getvalue()


def pprof_of(profile: StackProfile):
    stream = io.BytesIO()
    write_pprof(profile, stream)
    return profile_message().FromString(gzip.decompress(stream.getvalue()))


PROFILES = {
    "strange": lambda: profile_of(strange_traces()),
    "random": lambda: profile_of(random_traces(400)),
    "empty": lambda: profile_of([]),
    "one": lambda: profile_of([trace([frame("main")])]),
    "many equal": lambda: profile_of([trace([frame("leaf"), frame("main")])] * 50_000),
}


@pytest.fixture(params=PROFILES)
def profile(request) -> StackProfile:
    return PROFILES[request.param]()


def stacks_by_hand(traces) -> Counter[tuple[str, ...]]:
    """Stack -> weight, outermost first, as the folded format should have it, written independently of the tree."""
    weights: Counter[tuple[str, ...]] = Counter()
    for each in traces:
        names = [f.function if f.function is not None else f"[{f.module.rsplit('/', 1)[-1]}]" for f in each.frames]
        cut = [] if each.stop == StopReason.END_OF_STACK else ["[cut short: stack cut]"]
        weights[(each.comm, *cut, *reversed(names))] += each.weight
    return weights


def test_folded_stacks_are_those_of_the_traces():
    lines = text_of(write_folded, profile_of(random_traces(400))).splitlines()
    folded = {tuple(line.rsplit(" ", 1)[0].split(";")): int(line.rsplit(" ", 1)[1]) for line in lines}
    assert folded == stacks_by_hand(random_traces(400)) and len(folded) == len(lines)


def test_no_weight_is_lost(profile):
    whole = sum(weight for _, _, weight in weighed_stacks(profile))
    assert whole == profile.weight
    folded = text_of(write_folded, profile).splitlines()
    assert sum(int(line.rsplit(" ", 1)[1]) for line in folded) == whole
    speedscope = json.loads(text_of(write_speedscope, profile))
    assert sum(sum(one["weights"]) for one in speedscope["profiles"]) == whole
    firefox = json.loads(text_of(write_firefox, profile))
    assert sum(sum(thread["samples"]["weight"]) for thread in firefox["threads"]) == whole
    pprof = [sum(sample.value[at] for sample in pprof_of(profile).sample) for at in (0, 1)]
    assert pprof == [len(profile.samples), whole]
    assert sum(row.own for row in function_weights(profile)) == whole
    assert f"weight {whole}\n" in text_of(write_call_tree, profile)
    assert f"weight {whole}\n" in text_of(write_function_table, profile)


def test_every_format_is_utf_8(profile):
    for write in (write_folded, write_speedscope, write_firefox, write_call_tree, write_function_table):
        text_of(write, profile).encode("utf-8", "backslashreplace")
    for write in (write_speedscope, write_firefox):
        json.loads(text_of(write, profile).encode())


def test_names_survive():
    """Where a format can hold a name it is there as it was; a line-based one stays one line a stack."""
    profile = profile_of(strange_traces())
    escaped = {name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in STRANGE}
    speedscope = json.loads(text_of(write_speedscope, profile))
    assert escaped <= {one["name"] for one in speedscope["shared"]["frames"]}
    strings = {
        text for thread in json.loads(text_of(write_firefox, profile))["threads"] for text in thread["stringArray"]
    }
    assert escaped <= strings
    assert escaped <= set(pprof_of(profile).string_table)
    folded = text_of(write_folded, profile).splitlines()
    assert len(folded) == len(STRANGE) + 1
    assert all(re.fullmatch(r"[^;]*(;[^;]+)+ \d+", line) for line in folded)
    assert any(";semi:colon " in line for line in folded)


def test_pprof_reads_it(tmp_path, require_tool):
    go = require_tool("go", "golang-go")
    profile = profile_of(random_traces(400))
    path = tmp_path / "profile.pb.gz"
    with open(path, "wb") as stream:
        write_pprof(profile, stream)
    run = subprocess.run(
        [go, "tool", "pprof", "-top", "-nodecount=1000", "-nodefraction=0", "-edgefraction=0", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"Total samples = {profile.weight}" in run.stdout
    rows = re.findall(
        r"^ *(\d+) +[\d.]+% +[\d.]+% +(\d+) +[\d.]+%  (.*?)(?: \((?:partial-)?inline\))?$", run.stdout, re.M
    )
    ours: dict[str, tuple[int, int]] = {row.name: (row.own, row.total) for row in function_weights(profile)}
    assert {name: (int(own), int(total)) for own, total, name in rows} == ours


def test_pprof_has_inlined_calls_at_one_location():
    frames = [frame("inner", inlined=True, line=3), frame("outer", line=9), frame("main", line=1)]
    message = pprof_of(profile_of([trace(frames)]))
    (sample,) = message.sample
    by_id = {location.id: location for location in message.location}
    names = [
        [message.string_table[message.function[line.function_id - 1].name] for line in by_id[each].line]
        for each in sample.location_id
    ]
    assert names == [["inner", "outer"], ["main"]]
    assert [[line.line for line in by_id[each].line] for each in sample.location_id] == [[3, 9], [1]]
    (mapping,) = message.mapping
    assert message.string_table[mapping.filename] == PROGRAM and message.string_table[mapping.build_id] == BUILD_ID
    labels = {message.string_table[label.key]: label.num or message.string_table[label.str] for label in sample.label}
    assert labels == {"pid": 10, "tid": 10, "comm": "prog"}


def test_firefox_tables_are_whole(profile):
    """Every column has the table's length, every index is in its table, stacks are those of the samples."""
    document = json.loads(text_of(write_firefox, profile))
    paths: Counter[tuple[str, ...]] = Counter()
    for thread in document["threads"]:
        sizes = {"func": "funcTable", "frame": "frameTable", "prefix": "stackTable", "stack": "stackTable"}
        for name in ("samples", "stackTable", "frameTable", "funcTable", "resourceTable", "nativeSymbols", "markers"):
            table = thread[name]
            for column, values in table.items():
                if isinstance(values, list):
                    assert len(values) == table["length"], (name, column)
                    if column in sizes:
                        limit = thread[sizes[column]]["length"]
                        assert all(value is None or 0 <= value < limit for value in values)
        assert all(prefix is None or prefix < at for at, prefix in enumerate(thread["stackTable"]["prefix"]))
        assert all(resource < thread["resourceTable"]["length"] for resource in thread["funcTable"]["resource"])
        assert all(lib < len(document["libs"]) for lib in thread["resourceTable"]["lib"])
        assert thread["samples"]["time"] == sorted(thread["samples"]["time"])
        for stack, weight in zip(thread["samples"]["stack"], thread["samples"]["weight"], strict=True):
            names = []
            while stack is not None:
                func = thread["frameTable"]["func"][thread["stackTable"]["frame"][stack]]
                names.append(thread["stringArray"][thread["funcTable"]["name"][func]])
                stack = thread["stackTable"]["prefix"][stack]
            paths[tuple(names)] += weight
    expected: Counter[tuple[str, ...]] = Counter()
    for _, names, weight in weighed_stacks(profile):
        expected[tuple(n.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for n in names)] += (
            weight
        )
    assert paths == expected


def test_breakpad_ids_are_as_symbol_servers_have_them():
    # The first three fields of the GUID have their bytes turned round.
    assert breakpad_id(BUILD_ID) == "67452301AB89EFCD0123456789ABCDEF0"
    assert breakpad_id("abcd") == "0000CDAB0000000000000000000000000" and breakpad_id(None) == ""


def test_recursion_counts_once_in_a_total():
    profile = profile_of([trace([frame("f"), frame("g"), frame("f"), frame("main")], weight=5)])
    rows = {row.name: (row.own, row.total) for row in function_weights(profile)}
    assert rows == {"f": (5, 5), "g": (0, 5), "main": (0, 5)}


def test_lines_of_a_function_are_rows_of_their_own_on_request():
    traces = [trace([frame("f", file="/src/f.c", line=line)]) for line in (3, 3, 8)]
    rows = {row.place: row.own for row in function_weights(profile_of(traces), lines=True)}
    assert rows == {"/src/f.c:3": 2, "/src/f.c:8": 1}
    assert [row.own for row in function_weights(profile_of(traces))] == [3]


def test_a_call_tree_has_shares_and_leaves_nothing_out():
    cold = [trace([frame(f"cold{number}"), frame("main")]) for number in range(3)]
    traces = [trace([frame("hot"), frame("main")])] * 97 + cold
    text = text_of(write_call_tree, profile_of(traces), least_share=0.02)
    assert re.search(r"^100\.00% +100  main", text, re.M)
    assert re.search(r"^ +97\.00% +97  hot", text, re.M) and re.search(r"^ +3\.00% +3  \(3 more\)", text, re.M)
    outwards = text_of(write_call_tree, profile_of(traces), callers=True, least_share=0.02)
    assert re.search(r"^ +97\.00% +97  hot.*\n +97\.00% +97  main", outwards, re.M)


def test_a_call_tree_may_be_deeper_than_pythons_stack():
    deep = [frame(f"f{number}") for number in range(5000)]
    assert text_of(write_call_tree, profile_of([trace(deep)])).count("\n") == 5002


def test_perf_script_text_is_what_its_readers_expect():
    """As stackcollapse-perf.pl reads it: a head with command and pid, frames of address, name and module."""
    stream = io.StringIO()
    report = PerfScriptReport(stream)
    report.write(trace([frame("in", inlined=True), frame("out", offset=4), frame(None)], probe="cycles", cpu=3))
    head, *frames, end, _ = stream.getvalue().split("\n")
    assert re.fullmatch(r"prog 10/10 \[003\] 0\.005000: +1 cycles: ", head)
    assert re.fullmatch(r" +[0-9a-f]+ in \(inlined\)", frames[0])
    assert re.fullmatch(rf" +[0-9a-f]+ out\+0x4 \({PROGRAM}\)", frames[1])
    assert re.fullmatch(rf" +[0-9a-f]+ \[unknown\] \({PROGRAM}\)", frames[2]) and end == ""
