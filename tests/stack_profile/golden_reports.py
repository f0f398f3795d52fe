"""Reports of a fixed capture, format by format, as they are kept in golden/.

`python tests/stack_profile/golden_reports.py` writes them anew; look at what has changed before you commit it.
"""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stack_profile.made_traces import LIBRARY, frame, profile_of, trace

from cfi_tables.layout import StopReason
from ptap.profile.call_tree import write_call_tree
from ptap.profile.difference_folded import write_difference_folded
from ptap.profile.difference_table import write_difference_json, write_difference_table
from ptap.profile.difference_tree import write_difference_tree
from ptap.profile.firefox import write_firefox
from ptap.profile.folded import write_folded
from ptap.profile.function_table import write_function_table
from ptap.profile.perf_script import PerfScriptReport
from ptap.profile.pprof import write_pprof
from ptap.profile.pprof_schema import profile_message
from ptap.profile.profile_diff import ProfileDiff
from ptap.profile.speedscope import write_speedscope
from ptap.report.json_lines import JsonReport
from ptap.report.text import TextReport
from unwind.trace import Trace, TraceFrame

FOLDER = Path(__file__).with_name("golden")


def fixed_traces() -> list[Trace]:
    """Two threads of a program and another process: inlined and recursive calls, the kernel, code without names, a
    stack that was cut short, one without frames, names with blanks, quotes, semicolons, brackets and other bytes."""
    main = frame("main", file="/src/main.c", line=40, offset=30)
    work = frame("work", file="/src/work.c", line=12, column=5, offset=8)
    step = frame("step", file="/src/step.h", line=3, column=9, inlined=True)
    read = TraceFrame("kernel", 0xFFFFFFFF81002000, "[kernel]", None, "vfs_read", 16)
    entry = TraceFrame("kernel", 0xFFFFFFFF81000040, "[kernel]", None, "entry_SYSCALL_64", 64)
    unnamed = TraceFrame("user", 0x7F0000001010, LIBRARY)
    operator = frame('std::map<int, "a;b">::operator[] (int const&)', line=7, file="/src/a map.h")
    bytes_of_old = frame("caf\udce9 \U0001f525")
    traces = [
        trace([step, work, main], weight=4, time_ns=1_000_000, probe="cycles"),
        trace([work, main], weight=2, time_ns=2_000_500, cpu=1, probe="cycles"),
        trace([work, work, main], tid=11, comm="prog worker", time_ns=3_000_000),
        trace([read, entry, unnamed, main], weight=3, time_ns=4_000_000),
        trace([operator, bytes_of_old, main], tid=11, comm="prog worker", time_ns=5_000_000),
        trace([unnamed], stop=StopReason.STACK_CUT, time_ns=6_000_000, stop_text="the copy of the stack ends here"),
        trace([], pid=20, tid=20, comm="other", time_ns=7_000_000),
    ]
    return [*traces, trace([work, main], weight=2, time_ns=8_000_000)]


def _report_text(kind: Callable[[io.StringIO], TextReport | JsonReport | PerfScriptReport]) -> str:
    stream = io.StringIO()
    report = kind(stream)
    for each in fixed_traces():
        report.write(each)
    return stream.getvalue()


def _profile_text(write: Callable[..., None]) -> str:
    stream = io.StringIO()
    write(profile_of(fixed_traces()), stream)
    return stream.getvalue()


def _indented(write: Callable[..., None]) -> str:
    return json.dumps(json.loads(_profile_text(write)), indent=1, ensure_ascii=False) + "\n"


def _decoded_pprof() -> str:
    from google.protobuf.json_format import MessageToDict

    stream = io.BytesIO()
    write_pprof(profile_of(fixed_traces()), stream)
    message = profile_message().FromString(gzip.decompress(stream.getvalue()))
    return json.dumps(MessageToDict(message), indent=1, ensure_ascii=False) + "\n"


def _difference_text(write: Callable[..., None]) -> str:
    """From the program's main thread to all that was captured."""
    stream = io.StringIO()
    before = profile_of(each for each in fixed_traces() if each.tid == 10 and each.time_ns < 8_000_000)
    write(ProfileDiff(before, profile_of(fixed_traces())), stream)
    return stream.getvalue()


REPORTS: dict[str, Callable[[], str]] = {
    "text.txt": partial(_report_text, TextReport),
    "traces.jsonl": partial(_report_text, JsonReport),
    "perf-script.txt": partial(_report_text, PerfScriptReport),
    "tree.txt": partial(_profile_text, write_call_tree),
    "callers.txt": partial(_profile_text, partial(write_call_tree, callers=True)),
    "top.txt": partial(_profile_text, write_function_table),
    "lines.txt": partial(_profile_text, partial(write_function_table, lines=True)),
    "folded.txt": partial(_profile_text, write_folded),
    "pprof.json": _decoded_pprof,
    "speedscope.json": partial(_indented, write_speedscope),
    "firefox.json": partial(_indented, write_firefox),
    "difference-top.txt": partial(_difference_text, write_difference_table),
    "difference-tree.txt": partial(_difference_text, write_difference_tree),
    "difference-folded.txt": partial(_difference_text, write_difference_folded),
    "difference.json": partial(_difference_text, write_difference_json),
}


def as_written(name: str) -> str:
    """A report as a file has it."""
    return REPORTS[name]().encode("utf-8", "backslashreplace").decode()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in REPORTS:
        (FOLDER / each).write_text(as_written(each), encoding="utf-8")
