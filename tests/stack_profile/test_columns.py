"""Traces as columns: what DuckDB and pyarrow read is what the JSON says, row for row, whatever the names are."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet
import pytest
from stack_profile.made_traces import frame, random_traces, strange_traces, trace

from ptap.report import columns
from ptap.report.columns import ColumnReport
from ptap.report.json_lines import JsonReport
from unwind.arguments.argument_reader import Argument
from unwind.arguments.local_reader import Local
from unwind.trace import Trace, TraceFrame

FORMS = ("parquet", "arrow")


def traces_with_values() -> list[Trace]:
    known, unknown = Argument("a\udcff", "int", "1", None), Argument("b", "struct b *", None, "optimized out")
    local = Local("i", "int", "7", None, line=3, shadowed=True)
    return [
        trace([frame("f", arguments=[known, unknown], locals=[local], offset=4, column=2), frame("main", locals=[])]),
        trace([frame("f")], returned=known, undecided=True, chain="fp", signal="SIGSEGV", host="one", probe="p"),
        trace([frame("f")], weight=1 << 40, weight_unit="ns"),
    ]


TRACES = {
    "strange": lambda: list(strange_traces()),
    "random": lambda: list(random_traces(400)),
    "values": traces_with_values,
    "empty": list,
    "one": lambda: [trace([frame("main")])],
}


def written(form: str, traces: Iterable[Trace], path: Path) -> Path:
    with open(path, "wb") as stream:
        report = ColumnReport(stream, form)
        for each in traces:
            report.write(each)
        report.finish()
    return path


def opened(form: str, path: Path) -> duckdb.DuckDBPyRelation:
    """As DuckDB has it; Arrow's files it takes from pyarrow."""
    if form == "parquet":
        return duckdb.read_parquet(str(path))
    return duckdb.from_arrow(pa.ipc.open_file(path).read_all())


def rows_of(form: str, path: Path) -> list[dict[str, Any]]:
    table = opened(form, path)
    return [dict(zip(table.columns, row, strict=True)) for row in table.fetchall()]


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """A row in the shape of the JSON, where what is null may be left out and addresses are text."""
    made = {name: value for name, value in row.items() if name in ("probe", "frames") or value is not None}
    if not row["undecided"]:
        del made["undecided"]
    made["frames"] = [{**each, "address": f"{each['address']:#x}"} for each in row["frames"]]
    for each in made["frames"]:
        if each["locals"] is None:
            del each["locals"]
    return made


def json_of(traces: Iterable[Trace]) -> list[dict[str, Any]]:
    stream = io.StringIO()
    for each in traces:
        JsonReport(stream).write(each)
    return [json.loads(line) for line in stream.getvalue().split("\n")[:-1]]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", TRACES)
def test_rows_are_what_the_json_says(tmp_path, form, kind):
    rows = rows_of(form, written(form, TRACES[kind](), tmp_path / f"traces.{form}"))
    assert [as_json(row) for row in rows] == json_of(TRACES[kind]())


def test_every_field_is_a_column():
    """But for those that are for people, or for the making of a text."""
    frames = columns.SCHEMA.field("frames").type.value_type
    assert {each.name for each in fields(Trace)} - {"stop_text"} == set(columns.SCHEMA.names)
    assert {each.name for each in fields(TraceFrame)} - {"signal"} == {
        frames.field(at).name for at in range(frames.num_fields)
    }


@pytest.mark.parametrize("form", FORMS)
def test_many_batches_are_one_table(tmp_path, form, monkeypatch):
    """Names that come up later, and those that come again, in batches of few traces or few frames."""
    for limits in ((7, 1 << 20), (1 << 20, 50)):
        monkeypatch.setattr(columns, "_BATCH_TRACES", limits[0])
        monkeypatch.setattr(columns, "_BATCH_FRAMES", limits[1])
        path = written(form, random_traces(300), tmp_path / f"traces.{form}")
        assert [as_json(row) for row in rows_of(form, path)] == json_of(random_traces(300))
        if form == "parquet":
            assert pyarrow.parquet.ParquetFile(path).num_row_groups > 10


def test_many_equal_samples(tmp_path):
    one = trace([frame("leaf"), frame("main")], weight=3)
    path = written("parquet", (one for _ in range(200_000)), tmp_path / "traces.parquet")
    found = opened("parquet", path).aggregate("count(*), sum(weight), count(distinct frames)").fetchall()
    assert found == [(200_000, 600_000, 1)]
    assert path.stat().st_size < 6_000_000


def test_numbers_of_damaged_files_are_null_not_wrong(tmp_path):
    traces = [trace([frame("f", line=1 << 70)], time_ns=(1 << 64) - 1), trace([frame("f", line=5)])]
    rows = rows_of("parquet", written("parquet", traces, tmp_path / "traces.parquet"))
    assert [(row["time_ns"], row["frames"][0]["line"]) for row in rows] == [(None, None), (5_000_000, 5)]


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Path:
    """A capture file without hits: enough for the command's own ways."""
    from relay_reader.capture_file.facts import SourceFacts
    from relay_reader.capture_file.writer import CaptureWriter

    path = tmp_path_factory.mktemp("capture") / "empty.ptap"
    writer = CaptureWriter(str(path), [SourceFacts()])
    writer.close()
    return path


def command(capture: Path, *options: str, script: str = "pass", **more: Any) -> subprocess.CompletedProcess[str]:
    code = f"import sys; {script}; from ptap.cli.main import main; main()"
    words = [sys.executable, "-c", code, "report", str(capture), *options]
    return subprocess.run(words, text=True, stderr=subprocess.PIPE, check=False, **more)


def test_a_missing_library_is_told_with_its_remedy(capture, tmp_path):
    run = command(capture, "--format", "parquet", "-o", str(tmp_path / "x"), script="sys.modules['pyarrow'] = None")
    assert run.returncode == 2 and "pip install 'ptap[columns]'" in run.stderr and "Traceback" not in run.stderr


def test_a_full_disk_is_told(capture):
    with open("/dev/full", "wb") as full:
        run = command(capture, "--format", "parquet", stdout=full)
    assert run.returncode == 2 and "No space left" in run.stderr and "Traceback" not in run.stderr


@pytest.mark.parametrize("form", ["parquet", "pprof"])
def test_bytes_are_not_for_a_terminal(capture, form):
    leader, follower = os.openpty()
    run = command(capture, "--format", form, stdout=follower)
    os.close(follower)
    os.close(leader)
    assert run.returncode == 2 and f"{form} is not for a terminal" in run.stderr
