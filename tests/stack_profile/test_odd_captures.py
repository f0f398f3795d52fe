"""Every form, as the command writes it, of captures that are empty, tiny, endless, or full of names to escape."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import fields, replace

import pyarrow as pa
import pyarrow.parquet
import pytest
from stack_profile.made_traces import STRANGE, frame, profile_of, strange_traces, trace

from ptap.cli.report_format import FORMATS, finish, open_report
from ptap.profile.pprof_schema import profile_message
from ptap.profile.profile_report import ProfileReport
from unwind.trace import Trace

ESCAPED = {name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in STRANGE}
ONE_LINE = {name.replace("\n", "\\n") for name in ESCAPED}
"""As forms have them in which a line is a record."""


def written(form: str, traces: Iterable[Trace]) -> bytes:
    """The report of traces in a file."""
    file = io.BytesIO()
    stream = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace")
    report = open_report(form, stream)
    for each in traces:
        report.write(each)
    finish(report)
    stream.flush()
    return file.getvalue()


def _perf_script_weights(data: bytes) -> list[int]:
    blocks = data.decode().split("\n\n")[:-1]
    return [int(re.match(r".* \[\d{3}\] \d+\.\d{6}: +(\d+) ", block)[1]) for block in blocks]  # type: ignore[index]


def _text_head(data: bytes) -> list[int]:
    return [int(re.match(r"\d+ samples, weight (\d+)\n", data.decode())[1])]  # type: ignore[index]


WEIGHTS: dict[str, Callable[[bytes], Iterable[int]]] = {
    "json": lambda data: (json.loads(line)["weight"] for line in data.splitlines()),
    "perf-script": _perf_script_weights,
    "parquet": lambda data: pyarrow.parquet.read_table(pa.BufferReader(data))["weight"].to_pylist(),
    "arrow": lambda data: pa.ipc.open_file(data).read_all()["weight"].to_pylist(),
    "tree": _text_head,
    "callers": _text_head,
    "top": _text_head,
    "lines": _text_head,
    "folded": lambda data: (int(line.rsplit(" ", 1)[1]) for line in data.decode().splitlines()),
    "pprof": lambda data: (each.value[1] for each in profile_message().FromString(gzip.decompress(data)).sample),
    "firefox": lambda data: (w for one in json.loads(data)["threads"] for w in one["samples"]["weight"]),
    "speedscope": lambda data: (weight for one in json.loads(data)["profiles"] for weight in one["weights"]),
    "html": lambda data: [int(re.search(r'"facts":"\d+ samples, weight (\d+)', data.decode())[1])],  # type: ignore[index]
}
"""What a report says of its samples' weights, by its form; text shows none."""


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_and_little(form):
    one = trace([frame("main")], weight=7)
    for traces in ([], [one], [trace([])], list(strange_traces())):
        data = written(form, traces)
        if form == "text":
            assert len(re.findall(rb"^sample  ", data, re.M)) == len(traces)
        else:
            assert sum(WEIGHTS[form](data)) == sum(each.weight for each in traces)


@pytest.mark.parametrize("form", ["tree", "top", "folded", "pprof", "firefox", "speedscope", "html"])
def test_a_million_equal_samples(form, monkeypatch):
    """In forms that take all samples at once; the others write a trace as if it were the only one."""
    profile = profile_of([trace([frame("leaf"), frame("main")], weight=3)])
    samples = profile.samples
    for each in fields(samples):
        setattr(samples, each.name, getattr(samples, each.name).repeat(1_000_000))
    monkeypatch.setattr(ProfileReport, "write", lambda report, _: report.write_whole(profile))
    data = written(form, [trace([])])
    assert sum(WEIGHTS[form](data)) == 3_000_000
    if form not in ("firefox", "speedscope"):
        assert len(data) < 100_000, "equal samples take no room"


def test_strange_names_in_line_forms():
    """A name is one record's part, whatever is in it, and nothing of it is lost."""
    traces = [replace(each, comm="prog") for each in strange_traces()]
    script = written("perf-script", traces).decode().splitlines()
    assert len([line for line in script if re.match(r" *[0-9a-f]+ ", line)]) == sum(len(each.frames) for each in traces)
    frames = (re.fullmatch(r" *[0-9a-f]+ (.*?)(\+0x1)? \((.*)\)", line) for line in script if line.startswith(" "))
    assert {found and found[1] for found in frames} == {*(ONE_LINE - {""}), "[unknown]", "main"}
    for form in ("text", "tree", "top"):
        text = written(form, traces).decode()
        assert all(name in text for name in ONE_LINE), form
        assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)
    lines = [json.loads(line) for line in written("json", traces).splitlines()]
    assert {each["frames"][0]["function"] for each in lines if each["frames"]} == ESCAPED


@pytest.mark.parametrize("form", ["tree", "callers", "top", "lines", "folded", "speedscope", "html"])
def test_weights_beyond_what_a_word_holds(form):
    """Periods are whatever a file says; their sum is told to the last digit."""
    heavy = [trace([frame("leaf"), frame("main")], weight=(1 << 64) - 1), trace([frame("main")], weight=(1 << 64) - 3)]
    assert sum(WEIGHTS[form](written(form, [*heavy, heavy[0]]))) == 3 * (1 << 64) - 5
    assert sum(WEIGHTS[form](written(form, [heavy[0], trace([frame("main")], weight=1)]))) == 1 << 64
