"""What pprof, the Firefox Profiler and speedscope are given, written from columns, is what each trace has."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stack_profile.made_traces import frame, profile_of, random_traces, strange_traces, trace

from cfi_tables.distinct_values import numbered_as_met
from cfi_tables.hot_loop import run_hot
from cfi_tables.layout import StopReason
from ptap.profile import json_paths, pprof_columns, reached_stacks
from ptap.profile.firefox import write_firefox
from ptap.profile.inline_levels import inline_levels
from ptap.profile.json_paths import JsonPaths
from ptap.profile.pprof import write_pprof
from ptap.profile.pprof_schema import profile_message
from ptap.profile.protobuf_columns import LONGEST, number_size, put_number
from ptap.profile.reached_stacks import ReachedStacks
from ptap.profile.speedscope import write_speedscope
from ptap.profile.stack_profile import ROOT, missing_frames, unnamed
from unwind.trace import Trace, TraceFrame

INTEGERS = st.integers(-(1 << 63), (1 << 63) - 1)


@pytest.fixture(params=[False, True], ids=["plain", "compiled"])
def forms(request, monkeypatch) -> None:
    """Has the hot loops run in one form and in the other."""
    for module in (json_paths, pprof_columns, reached_stacks):
        monkeypatch.setattr(module, "compiled_pays", lambda loop, seconds: request.param)


def deep_traces() -> list[Trace]:
    """A stack of 3,000 calls, kernel addresses, large weights and lines, calls inlined into nothing that is there."""
    deep = [frame(f"f{number % 700}", inlined=number % 3 == 0, line=1 << 40) for number in range(3000)]
    kernel = TraceFrame("kernel", 0xFFFFFFFFFFFFFFF0, "[kernel]", None, "at_the_end", 4)
    orphan = [frame("inner", inlined=True, line=3), frame("outer", inlined=True, line=4)]
    return [
        *(trace(frames, weight=weight) for frames in (deep, [kernel, *orphan], orphan) for weight in (1 << 40, 1, 0)),
        trace([frame("main"), *orphan, frame("main")]),
        trace(orphan[1:], tid=3),
    ]


TRACES = {
    "random": lambda: list(random_traces(300)),
    "strange": lambda: list(strange_traces()),
    "deep": deep_traces,
    "none": list,
}


@pytest.fixture(params=TRACES)
def traces(request) -> list[Trace]:
    return TRACES[request.param]()


def readable(text: str | None) -> str:
    return (text or "").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def calls_of(one: Trace) -> list[tuple]:
    """Name, file, line, address, module and whether it is inlined of each call, innermost first, with the mark last."""
    calls = [
        (
            readable(each.function if each.function is not None else unnamed(each.module)),
            *(readable(each.file), each.line or 0, each.address, readable(each.module), each.inlined),
        )
        for each in one.frames
    ]
    cut = one.stop != StopReason.END_OF_STACK or not calls
    return calls + ([(missing_frames(one.stop), "", 0, 0, "", False)] if cut else [])


def locations_of(calls: list[tuple]) -> tuple[tuple, ...]:
    """Calls up to one that is not inlined are one location: its address and module, and all their names and lines."""
    found, lines = [], []
    for at, (name, file, line, address, module, inlined) in enumerate(calls):
        lines.append((name, file, line))
        if not inlined or at == len(calls) - 1:
            found.append((address, module, tuple(lines)))
            lines = []
    return tuple(found)


def test_a_pprof_message_has_the_samples_of_the_traces(forms, traces):
    stream = io.BytesIO()
    write_pprof(profile_of(traces), stream)
    message = profile_message().FromString(gzip.decompress(stream.getvalue()))
    text, functions = message.string_table, {each.id: each for each in message.function}
    modules = {0: "", **{each.id: text[each.filename] for each in message.mapping}}
    locations = {
        each.id: (
            *(each.address, modules[each.mapping_id]),
            tuple(
                (text[functions[one.function_id].name], text[functions[one.function_id].filename], one.line)
                for one in each.line
            ),
        )
        for each in message.location
    }
    assert len(set(locations.values())) == len(message.location) == len(locations), "each location is there once"
    assert [each.id for each in message.location] == [*range(1, len(locations) + 1)]
    assert {each for sample in message.sample for each in sample.location_id} == set(locations), "and is used"
    found = {}
    for sample in message.sample:
        labels = tuple((text[each.key], each.num or text[each.str]) for each in sample.label)
        key = labels, tuple(locations[each] for each in sample.location_id)
        assert key not in found
        found[key] = tuple(sample.value)
    expected: dict[tuple, tuple[int, int]] = {}
    for one in traces:
        key = (("pid", one.pid), ("tid", one.tid), ("comm", readable(one.comm))), locations_of(calls_of(one))
        count, weight = expected.get(key, (0, 0))
        expected[key] = count + 1, weight + one.weight
    assert found == expected and list(found) == list(expected)


def test_weights_above_what_pprof_can_hold_are_its_largest(forms):
    """They are int64 there, and any value has to be one."""
    traces = [trace([frame("main")], weight=weight) for weight in ((1 << 64) - 1, 5)]
    stream = io.BytesIO()
    write_pprof(profile_of([*traces, trace([frame("other")], weight=7)]), stream)
    message = profile_message().FromString(gzip.decompress(stream.getvalue()))
    assert [[*sample.value] for sample in message.sample] == [[2, (1 << 63) - 1], [1, 7]]


def test_a_firefox_profile_has_the_samples_of_the_traces(forms, traces):
    stream = io.StringIO()
    write_firefox(profile_of(traces), stream)
    document = json.loads(stream.getvalue())
    begin = min((one.time_ns for one in traces), default=0)
    found: Counter[tuple] = Counter()
    for thread in document["threads"]:
        frames, functions, text = thread["frameTable"], thread["funcTable"], thread["stringArray"]
        stacks, samples = thread["stackTable"], thread["samples"]
        for stack, time, weight in zip(samples["stack"], samples["time"], samples["weight"], strict=True):
            calls = []
            while stack is not None:
                at = stacks["frame"][stack]
                func = frames["func"][at]
                file = functions["fileName"][func]
                name = text[functions["name"][func]], "" if file is None else text[file]
                assert frames["category"][at] == stacks["category"][stack]
                calls.append((*name, frames["line"][at] or 0, frames["inlineDepth"][at], frames["category"][at]))
                stack = stacks["prefix"][stack]
            found[thread["tid"], time, weight, tuple(calls)] += 1
    expected: Counter[tuple] = Counter()
    for one in traces:
        calls, depth = [], 0
        spaces = [{"user": 1, "kernel": 2}[each.space] for each in one.frames]
        for at, (name, file, line, _, _, inlined) in reversed([*enumerate(calls_of(one))]):
            depth = depth + 1 if inlined else 0
            calls.append((name, file, line, depth, (spaces + [0])[at]))
        expected[one.tid, (one.time_ns - begin) / 1e6, one.weight, tuple(calls[::-1])] += 1
    assert found == expected


def test_a_firefox_profile_of_a_file_with_any_name():
    stream = io.StringIO()
    write_firefox(profile_of([]), stream, product="caf\udce9 <\u00e9>")
    assert json.loads(stream.getvalue())["meta"]["product"] == "caf\\xe9 <\u00e9>"


def test_a_speedscope_file_has_the_samples_of_the_traces(forms, traces):
    stream = io.StringIO()
    write_speedscope(profile_of(traces), stream)
    document = json.loads(stream.getvalue())
    frames = [(each["name"], each.get("line", 0)) for each in document["shared"]["frames"]]
    found = {
        one["name"]: [
            ([frames[each] for each in sample], weight)
            for sample, weight in zip(one["samples"], one["weights"], strict=True)
        ]
        for one in document["profiles"]
    }
    expected: dict[str, list] = {}
    for one in traces:
        # A line without its file is not told.
        calls = [(name, line if file else 0) for name, file, line, *_ in reversed(calls_of(one))]
        expected.setdefault(f"{readable(one.comm)} {one.pid}/{one.tid}", []).append((calls, one.weight))
    assert found == expected
    assert {one["name"]: one["endValue"] for one in document["profiles"]} == {
        name: sum(weight for _, weight in samples) for name, samples in expected.items()
    }


def test_paths_of_stacks_without_calls():
    nothing = np.zeros(0, dtype=np.int32)
    paths = JsonPaths(np.array([ROOT, 0], dtype=np.int32), np.array([1_000_000, 0], dtype=np.int32))
    assert paths.of(nothing) == b"[]"
    assert json.loads(paths.of(np.array([1, ROOT, 0], dtype=np.int32))) == [[1_000_000, 0], [], [1_000_000]]


@settings(deadline=None)
@given(st.lists(INTEGERS, max_size=20))
def test_numbers_are_those_of_the_protobuf_library(values):
    """Seven bits a byte, the lowest first, negative ones in ten (protobuf.dev, "Encoding")."""
    message = profile_message()(comment=values)
    out = np.zeros(len(values) * LONGEST, dtype=np.uint8)
    at = 0
    for value in values:
        before, at = at, run_hot(put_number, False, out, at, value)
        assert at - before == number_size(value)
    # The field's tag and length, then the numbers.
    assert message.SerializeToString().endswith(out[:at].tobytes())
    assert sum(map(number_size, values)) == at


def test_the_compiled_writer_of_numbers_is_the_plain_one():
    chosen = random.Random(5)
    values = [chosen.choice((1, -1)) * chosen.getrandbits(chosen.randrange(64)) for _ in range(500)] + [-(1 << 63)]
    for value in values:
        written = []
        for use_compiled in (False, True):
            out = np.zeros(LONGEST, dtype=np.uint8)
            written.append((run_hot(put_number, use_compiled, out, 0, value), out.tobytes()))
        assert written[0] == written[1]


def test_stacks_that_samples_reach(forms, traces):
    profile = profile_of(traces)
    reached, stacks = ReachedStacks(profile.parents), profile.samples.stacks
    for chosen in (stacks, stacks[::3], stacks[:0], stacks[-1:]):
        expected = {each for stack in chosen.tolist() for each in profile.path(stack)}
        assert reached.of(chosen).tolist() == sorted(expected)


def test_levels_of_inlined_calls(traces):
    profile = profile_of(traces)
    levels = {stack: number for number, level in enumerate(inline_levels(profile), 1) for stack in level.tolist()}
    depths: dict[int, int] = {ROOT: 0}
    for stack, (parent, call) in enumerate(zip(profile.parents.tolist(), profile.call_of.tolist(), strict=True)):
        depths[stack] = depths[parent] + 1 if profile.calls.inlined[call] else 0
    assert {stack: depth for stack, depth in depths.items() if depth} == levels


@pytest.mark.parametrize("scale", [1, 1000, -1])
def test_values_are_numbered_as_they_are_met(scale):
    chosen = random.Random(3)
    for count in (0, 1, 500):
        values = np.array([scale * chosen.randrange(100) for _ in range(count)], dtype=np.int64)
        numbers: dict[int, int] = {}
        expected = [numbers.setdefault(value, len(numbers)) for value in values.tolist()]
        distinct, which = numbered_as_met(values)
        assert distinct.tolist() == list(numbers) and which.tolist() == expected
