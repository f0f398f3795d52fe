"""Two profiles compared: weights are those of the traces on both sides, functions the same across builds."""

from __future__ import annotations

import io
import json
import re
from collections import Counter

import pytest
from stack_profile.made_traces import frame, profile_of, random_traces, strange_traces, trace, weighed_stacks

from ptap.profile.difference_folded import write_difference_folded
from ptap.profile.difference_table import function_changes, write_difference_json, write_difference_table
from ptap.profile.difference_tree import write_difference_tree
from ptap.profile.folded import write_folded
from ptap.profile.function_table import function_weights
from ptap.profile.profile_diff import ProfileDiff
from unwind.trace import Trace, TraceFrame

SIDES = {
    "random": lambda: (list(random_traces(300)), list(random_traces(200, seed=2))),
    "strange": lambda: (list(strange_traces()), list(strange_traces())[::2]),
    "from nothing": lambda: ([], list(random_traces(20))),
    "to nothing": lambda: (list(random_traces(20)), []),
    "nothing": lambda: ([], []),
}


@pytest.fixture(params=SIDES)
def sides(request) -> tuple[list[Trace], list[Trace]]:
    return SIDES[request.param]()


def diff_of(before: list[Trace], after: list[Trace], absolute: bool = False) -> ProfileDiff:
    return ProfileDiff(profile_of(before), profile_of(after), absolute)


def text_of(write, diff: ProfileDiff, **options: object) -> str:
    stream = io.StringIO()
    write(diff, stream, **options)
    stream.getvalue().encode("utf-8", "backslashreplace")
    return stream.getvalue()


def folded_by_hand(traces: list[Trace]) -> Counter[str]:
    stream = io.StringIO()
    write_folded(profile_of(traces), stream)
    lines = (line.rsplit(" ", 1) for line in stream.getvalue().splitlines())
    return Counter({stack: int(weight) for stack, weight in lines})


def test_a_functions_weights_are_those_of_both_profiles(sides):
    by_side = [{(row.name, row.module): (row.own, row.total) for row in function_weights(profile_of(s))} for s in sides]
    rows = function_changes(diff_of(*sides, absolute=True))
    found = [{(row.name, row.module): (row.own[s], row.total[s]) for row in rows if row.total[s]} for s in (0, 1)]
    assert found == by_side
    wholes = [sum(each.weight for each in traces) for traces in sides]
    assert [sum(row.own[side] for row in rows) for side in (0, 1)] == wholes
    changes = [abs(row.own[1] - row.own[0]) for row in rows]
    assert changes == sorted(changes, reverse=True)


def test_json_says_how_shares_changed(sides):
    found = json.loads(text_of(write_difference_json, diff_of(*sides)))
    wholes = [sum(each.weight for each in traces) for traces in sides]
    assert [found[side]["weight"] for side in ("before", "after")] == wholes
    assert [found[side]["samples"] for side in ("before", "after")] == [len(traces) for traces in sides]
    for row in found["functions"]:
        for kind in ("self", "total"):
            shares = [
                row[kind][side] / whole if whole else 0 for side, whole in zip(("before", "after"), wholes, strict=True)
            ]
            assert row[kind]["change"] == pytest.approx(shares[1] - shares[0])
        sides_of = tuple(bool(row["total"][side]) for side in ("before", "after"))
        assert row["state"] == {(False, True): "new", (True, False): "gone", (True, True): "both"}[sides_of]


def test_folded_lines_have_both_weights(sides):
    before, after = map(folded_by_hand, sides)
    lines = text_of(write_difference_folded, diff_of(*sides, absolute=True)).splitlines()
    found = {stack: (int(b), int(a)) for stack, b, a in (line.rsplit(" ", 2) for line in lines)}
    assert found == {stack: (before[stack], after[stack]) for stack in before | after}
    scaled = text_of(write_difference_folded, diff_of(*sides)).splitlines()
    weights = {stack: (float(b), int(a)) for stack, b, a in (line.rsplit(" ", 2) for line in scaled)}
    scale = after.total() / before.total() if before and after else 1
    assert weights == {
        stack: (pytest.approx(before[stack] * scale, abs=0.005), after[stack]) for stack in before | after
    }
    # As flamegraph.pl takes a line apart.
    assert all(re.fullmatch(r".*\s+?\d+(\.\d*)?\s+?\d+(\.\d*)?", line) for line in scaled)


@pytest.mark.parametrize("callers", [False, True])
def test_a_tree_has_every_call(sides, callers):
    """A line for each path of calls that either side has, with what it weighs on both."""
    expected: dict[tuple[str, ...], list[int]] = {}
    for side, traces in enumerate(sides):
        for _, stack, weight in weighed_stacks(profile_of(traces)):
            names = stack[:: 1 if callers else -1]
            for depth in range(1, len(names) + 1):
                expected.setdefault(tuple(names[:depth]), [0, 0])[side] += weight
    text = text_of(write_difference_tree, diff_of(*sides, absolute=True), callers=callers, least_share=0)
    lines = [line for line in text.split("\n\n", 1)[1].splitlines()[1:] if not line.endswith("(itself)")]
    found = [[int(line[:9].strip() or 0), int(line[10:19].strip() or 0)] for line in lines]
    assert sorted(found) == sorted(expected.values())


def test_text_says_what_is_new_and_what_is_gone():
    diff = diff_of(
        [trace([frame("same"), frame("main")], weight=3), trace([frame("old"), frame("main")])],
        [trace([frame("same"), frame("main")]), trace([frame("fresh"), frame("main")])],
    )
    for write in (write_difference_table, write_difference_tree):
        text = text_of(write, diff)
        assert text.startswith("before: 2 samples, weight 4\nafter:  2 samples, weight 2\n\n")
        assert re.search(r" 25\.00% +-25\.00% .*gone +old ", text) and re.search(
            r" 50\.00% +\+50\.00% .*new +fresh ", text
        )
        assert re.search(r"75\.00% +50\.00% +-25\.00% +same ", text)
    cold = text_of(write_difference_tree, diff, least_share=0.3)
    assert re.search(r"25\.00% +-25\.00% gone +\(1 more\)", cold)


def test_a_tree_may_be_deeper_than_pythons_stack():
    deep = [trace([frame(f"f{number}") for number in range(3000)])]
    assert text_of(write_difference_tree, diff_of(deep, deep)).count(" +0.00%") == 3000


def in_module(name: str | None, module: str, **fields: object) -> TraceFrame:
    return TraceFrame("user", 0x1000, module, None, name, **fields)  # type: ignore[arg-type]


def changes(before: list[TraceFrame], after: list[TraceFrame]) -> list[tuple[str, list[int]]]:
    sides = ([trace([each]) for each in frames] for frames in (before, after))
    return sorted((row.name, row.own) for row in function_changes(diff_of(*sides)))


def test_functions_are_the_same_across_builds():
    old, new = "/old/lib/libx.so.1.2", "/new/lib/libx.so.1.3"
    assert changes([in_module("f", old), in_module(None, old)], [in_module("f", new), in_module(None, new)]) == [
        ("[libx.so.1.3]", [1, 1]),
        ("f", [1, 1]),
    ]
    # A name that one of them has in two modules is told apart.
    twice = [in_module("f", old), in_module("f", "/bin/prog")]
    assert changes(twice, [in_module("f", new)]) == [("f", [1, 0]), ("f", [1, 1])]
    # A program of another name is the same if there is no other choice.
    assert changes(twice, [in_module("f", new), in_module("f", "/bin/prog2")]) == [("f", [1, 1])] * 2
    others = [in_module("f", "/bin/a"), in_module("f", "/bin/b")]
    assert (
        changes([in_module("f", "/bin/c"), in_module("f", "/bin/d")], others)
        == [("f", [0, 1])] * 2 + [("f", [1, 0])] * 2
    )


def test_lines_are_rows_of_their_own():
    before, after = ([trace([frame("f", file=f"/{where}/f.c", line=line)]) for line in lines]
                     for where, lines in (("old", (3, 3, 8)), ("new", (3, 9))))  # fmt: skip
    rows = {row.place: row.own for row in function_changes(diff_of(before, after), lines=True)}
    assert rows == {"/new/f.c:3": [2, 1], "/old/f.c:8": [1, 0], "/new/f.c:9": [0, 1]}


def test_a_renamed_command_is_one_root():
    sides = ([trace([frame("f")], comm=comm, weight=4)] for comm in ("prog", "prog2"))
    diff = diff_of(*sides)
    assert text_of(write_difference_folded, diff) == "prog2;f 4 4\n"
    assert "prog before is prog2 after" in text_of(write_difference_table, diff)
