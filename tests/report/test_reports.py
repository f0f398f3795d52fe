"""Traces as text and as JSON: what a person sees, what stays safe on a terminal, what stays machine-readable."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys

import pytest

from cfi_tables.layout import StopReason
from ptap.report.json_lines import JsonReport
from ptap.report.short_text import printable, short_name, short_reason, short_value
from ptap.report.text import TextReport
from unwind.arguments.argument_reader import Argument
from unwind.trace import Trace, TraceFrame

PROBE = 'process("prog").function("work@prog.c:7")'


def trace(*frames: TraceFrame, **changes: object) -> Trace:
    fields: dict[str, object] = {
        "probe": PROBE, "time_ns": 1_500_000_000, "cpu": 1, "pid": 10, "tid": 11, "comm": "prog", "weight": 1,
        "stop": StopReason.END_OF_STACK, "frames": list(frames), **changes,
    }  # fmt: skip
    return Trace(**fields)  # type: ignore[arg-type]


def text_of(*traces: Trace, **options: bool) -> str:
    stream = io.StringIO()
    report = TextReport(stream, **options)
    for each in traces:
        report.write(each)
    return stream.getvalue()


def user(name: str | None, **fields: object) -> TraceFrame:
    return TraceFrame("user", 0x1234, "/lib/x.so", function=name, **fields)  # type: ignore[arg-type]


def test_a_block_has_a_head_and_numbered_frames():
    frames = [user(f"f{number}", file="/src/a.c", line=number + 1) for number in range(11)]
    lines = text_of(trace(*frames)).splitlines()
    assert PROBE in lines[0] and "prog 10/11" in lines[0]
    assert len({line.index("f") for line in lines[1:12]}) == 1, "names begin in one column"
    assert [re.match(r" +#(\d+) ", line)[1] for line in lines[1:12]] == [str(number) for number in range(11)]
    assert lines[12] == "" and len(lines) == 13


def test_what_is_undecided_is_marked():
    assert "undecided" not in text_of(trace(user("f"))) and "undecided" in text_of(trace(user("f"), undecided=True))
    stream = io.StringIO()
    for undecided in (False, True):
        JsonReport(stream).write(trace(user("f"), undecided=undecided))
    assert [json.loads(line).get("undecided") for line in stream.getvalue().splitlines()] == [None, True]


def test_kernel_frames_inlined_calls_and_signal_handlers_are_marked():
    frames = [
        TraceFrame("kernel", 0xFFFF, "[kernel]", function="do_syscall_64", offset=4),
        TraceFrame("kernel", 0xFFFF, "ext4", function="ext4_write", offset=8),
        user("inner", file="/src/a.c", line=3, inlined=True),
        user("outer", file="/src/a.c", line=9),
        user("__restore_rt", signal=True),
        user(None),
    ]
    lines = text_of(trace(*frames)).splitlines()[1:]
    assert "do_syscall_64+0x4 [kernel]" in lines[0] and "ext4_write+0x8 [ext4]" in lines[1]
    assert lines[2].endswith("[inlined]") and "[inlined]" not in lines[3]
    assert "<signal handler called>" in lines[4]
    assert "0x1234 in /lib/x.so" in lines[5]


def test_unavailable_values_tell_why_in_short():
    why = "value at function entry is not known: the caller has no debug information"
    frame = user("work", arguments=[Argument("a", "int", "1", None), Argument("b", "int", None, why)])
    assert "(a=1, b=<unavailable: value at function entry is not known>)" in text_of(trace(frame))
    assert why in text_of(trace(frame), verbose=True)


def test_a_return_is_told_in_the_head():
    returned = Argument("$return", "int", "42", None)
    text = text_of(trace(user("main"), probe=PROBE + ".return", returned=returned))
    assert text.splitlines()[0].startswith("work(...) returned 42  ")
    unknown = text_of(trace(user("main"), probe=PROBE + ".return"))
    assert "work(...) returned <unavailable" in unknown.splitlines()[0]
    void = Argument("$return", "void", None, "void")
    assert "work(...) returned  " in text_of(trace(user("main"), probe=PROBE + ".return", returned=void), stacks=False)


def test_one_line_a_hit_without_stacks():
    frame = user("work", arguments=[Argument("a", "int", "1", None)])
    assert len(text_of(trace(frame, user("main")), trace(frame), stacks=False).splitlines()) == 2
    assert "(a=1)" in text_of(trace(frame), stacks=False)
    event = trace(TraceFrame("kernel", 1, "[kernel]", function="k"), user("work"), probe='kernel.trace("a:b")')
    assert "in work" in text_of(event, stacks=False)


def test_a_cut_stack_says_so():
    text = text_of(trace(user("work"), stop=StopReason.STACK_CUT, stop_text="the copy was too small"))
    assert "cut short: the copy was too small" in text


def test_source_lines(tmp_path):
    source = tmp_path / "a.c"
    source.write_text("one\n\ttwo\tthree\n")
    lines = text_of(trace(user("work", file=str(source), line=2)), source=True).splitlines()
    assert lines[2].split() == ["two", "three"]
    for line in (0, 3, None):
        assert len(text_of(trace(user("work", file=str(source), line=line)), source=True).splitlines()) == 3
    assert len(text_of(trace(user("work", file="/no/such.c", line=2)), source=True).splitlines()) == 3


def test_nothing_traced_can_steer_the_terminal():
    evil = "\x1b[2J\r\nfake\u202e"
    frame = user(evil, file=f"/src/{evil}", line=1, arguments=[Argument(evil, "t", evil, None)])
    text = text_of(trace(frame, comm=evil, stop_text=evil), verbose=True)
    assert len(text.splitlines()) == 4 and not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    assert printable("ärger") == "ärger"


@pytest.mark.parametrize(
    "name",
    [
        "main",
        "operator<",
        "ns::Box<int>::operator<(ns::Box<int> const&) const",
        "drawing::(anonymous namespace)::total",
        "std::vector<int, std::allocator<int> >::push_back",
    ],
)
def test_names_of_usual_length_are_left_alone(name):
    assert short_name(name) == name


def test_long_names_lose_their_template_arguments_only():
    inner = "std::pair<std::basic_string<char, std::char_traits<char>, std::allocator<char> > const, int>"
    name = f"std::_Rb_tree<std::string, {inner}, std::_Select1st<{inner} >, std::less<void> >::_M_insert_unique"
    short = short_name(name)
    assert len(short) <= 100 < len(name)
    assert short.startswith("std::_Rb_tree<") and short.endswith(">::_M_insert_unique") and "…" in short
    assert short.count("<") == short.count(">")
    assert name in text_of(trace(user(name)), verbose=True) and short in text_of(trace(user(name)))


def test_long_values_and_reasons_are_cut():
    assert short_value("x" * 160) == "x" * 160
    assert len(short_value("x" * 1000)) == 160 and short_value("x" * 1000).endswith("…")
    assert short_reason("floating-point registers are not captured") == "floating-point registers are not captured"


def test_json_is_one_line_whatever_the_names():
    stream = io.StringIO()
    evil = "line\nbreak \udcff \x1b"
    JsonReport(stream).write(trace(user(evil), comm=evil))
    (line,) = stream.getvalue().splitlines()
    read = json.loads(line)
    assert read["comm"] == read["frames"][0]["function"] == "line\nbreak \\xff \x1b"
    assert read["stop"] == "end_of_stack" and "returned" not in read


COLOURED = """
import sys
sys.path.insert(0, {directory!r})
from test_reports import text_of, trace, user
from ptap.report.text import TextReport
TextReport(sys.stdout).write(trace(user("work", file="/src/a.c", line=3)))
"""


@pytest.mark.parametrize(("settings", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colours_on_a_terminal_only(settings, coloured):
    script = COLOURED.format(directory=os.path.dirname(__file__))
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment.update({"TERM": "xterm", **settings})
    master, slave = pty.openpty()
    subprocess.run([sys.executable, "-c", script], stdout=slave, env=environment, check=True, timeout=60)
    os.close(slave)
    text = os.read(master, 65536)
    os.close(master)
    assert (b"\x1b[" in text) is coloured and b"work" in text
    piped = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=True, timeout=60)
    assert b"\x1b" not in piped.stdout and b"work" in piped.stdout
