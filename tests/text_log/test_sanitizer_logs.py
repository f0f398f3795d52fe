"""What the sanitizers print without symbols, told by ptap, against what they print with their own symbolizer."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from text_log_oracle import Rewritten

pytestmark = pytest.mark.xdist_group("sanitizer_logs")

RequireTool = Callable[[str, str], str]
Symbolize = Callable[..., Rewritten]

FREED_CPP = r"""
#include <cstdio>
#include <cstdlib>
namespace shop {
template <class T> struct Box {
  T *content;
  explicit Box(int count) : content(new T[count]) {}
  __attribute__((always_inline)) inline void empty() { delete[] content; }
  __attribute__((always_inline)) inline T at(int index) const { return content[index]; }
  __attribute__((noinline)) T sum(int count) const {
    T total = 0;
    for (int index = 0; index < count; index++)
      total += at(index);
    return total;
  }
};
}
static __attribute__((noinline)) void give_back(shop::Box<long> &box) { box.empty(); }
int main(int argc, char **argv) {
  shop::Box<long> box(10);
  long before = box.sum(10);
  give_back(box);
  std::printf("%ld\n", before + box.sum(argc));
  return 0;
}
"""

OVERFLOW_C = r"""
#include <stdlib.h>
static inline __attribute__((always_inline)) int add(int a, int b)
{
  return a + b;
}
__attribute__((noinline)) int doubled(int a)
{
  return add(a, a);
}
int main(int argc, char **argv)
{
  return doubled(0x7fffffff - argc) & 1;
}
"""

_FRAME = re.compile(r"^ +#\d+ (?:0x[0-9a-f]+ in )?(.*?) (?:at )?(/\S+\.c(?:pp)?):(\d+)")


@dataclass(frozen=True)
class Reports:
    """One program's report without and with symbols."""

    path: Path
    bare: str
    symbolized: str


def own_frames(report: str) -> list[tuple[str, str, str]]:
    """(function, file, line) of the frames in the program's own source, from all stacks of a report."""
    rows = [match for line in report.splitlines() if (match := _FRAME.match(line))]
    return [(row[1], Path(row[2]).name, row[3]) for row in rows if Path(row[2]).name in ("freed.cpp", "overflow.c")]


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory, require_tool: RequireTool) -> Callable[..., Reports]:
    """`reports(compiler, sanitizer)` runs the program that fails under it, at the same addresses both times."""
    folder = tmp_path_factory.mktemp("sanitizers")
    (folder / "freed.cpp").write_text(FREED_CPP)
    (folder / "overflow.c").write_text(OVERFLOW_C)
    symbolizer = require_tool("llvm-symbolizer-14", "llvm-14")
    still = ["setarch", "-R"]
    if subprocess.run([*still, "true"], capture_output=True).returncode:
        still = []  # a container may forbid it
    done: dict[tuple[str, ...], Reports] = {}

    def run(compiler: str, sanitizer: str, more: str = "") -> Reports:
        if (compiler, sanitizer, more) not in done:
            source = "freed.cpp" if compiler.endswith("++") else "overflow.c"
            path = folder / f"{compiler}-{sanitizer}"
            if not path.exists():
                tool = require_tool(compiler, "clang" if compiler.startswith("clang") else compiler)
                options = ["-g", "-O1", f"-fsanitize={sanitizer}", "-fno-omit-frame-pointer", "-Wl,--build-id"]
                subprocess.run([tool, *options, "-o", path, folder / source], check=True, capture_output=True)
            texts = []
            for words in ("symbolize=0", f"symbolize=1:external_symbolizer_path={symbolizer}"):
                options_name = "UBSAN_OPTIONS" if sanitizer == "undefined" else "ASAN_OPTIONS"
                environment = {**os.environ, options_name: f"{words}:detect_leaks=0:print_stacktrace=1{more}"}
                ran = subprocess.run([*still, path], env=environment, capture_output=True, text=True)
                texts.append(ran.stderr)
            done[compiler, sanitizer, more] = Reports(path, *texts)
        return done[compiler, sanitizer, more]

    return run


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_frames_are_the_sanitizers_own(compiler: str, reports: Callable[..., Reports], symbolize: Symbolize) -> None:
    """Where it failed, where memory was freed, and where it was allocated."""
    report = reports(compiler, "address")
    wanted = own_frames(report.symbolized)
    assert not own_frames(report.bare) and "heap-use-after-free" in report.bare
    assert {"at", "sum", "empty", "give_back", "main"} <= {name.split("(")[0].split("::")[-1] for name, *_ in wanted}
    done = symbolize(log=report.bare)
    text = done.stdout.decode()
    assert own_frames(text) == wanted
    # The line that sums it up says the same, and nothing else has changed.
    (summary,) = [line for line in text.splitlines() if line.startswith("SUMMARY: ")]
    assert re.search(
        rf"heap-use-after-free in .*sum.* at \S+ \(.*at\(int\) const at \S+:{wanted[0][2]} \[inlined\]\)", summary
    )
    frames = re.compile(r" +#\d|SUMMARY: ")
    kept = [line for line in report.bare.splitlines() if not frames.match(line)]
    assert [line for line in text.splitlines() if not frames.match(line)] == kept


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_undefined_behaviour(compiler: str, reports: Callable[..., Reports], symbolize: Symbolize) -> None:
    report = reports(compiler, "undefined")
    wanted = own_frames(report.symbolized)
    assert "signed integer overflow" in report.bare and [name for name, *_ in wanted] == ["add", "doubled", "main"]
    text = symbolize(log=report.bare.replace("\n", "\r\n")).stdout.decode()
    assert text.count("\r\n") == text.count("\n")
    assert own_frames(text.replace("\r\n", "\n")) == wanted


def test_the_thread_sanitizers_form(
    reports: Callable[..., Reports], symbolize: Symbolize, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its frames have neither addresses nor paths; what is in PATH is found."""
    plain = reports("g++", "address")
    report = reports("g++", "address", ":stack_trace_format='    #%n %f %S %M'")
    assert f"#0 <null> <null> ({plain.path.name}+0x" in report.bare
    monkeypatch.setenv("PATH", f"{plain.path.parent}:{os.environ['PATH']}")
    text = symbolize(log=report.bare).stdout.decode()
    assert own_frames(text) == own_frames(plain.symbolized)


def test_a_library_of_another_build_is_refused(
    reports: Callable[..., Reports], symbolize: Symbolize, require_tool: RequireTool, tmp_path: Path
) -> None:
    """Both build-ids are told and the frames stay; a file of the log's build-id is found wherever it is."""
    report = reports("clang++", "address")
    notes = subprocess.run(
        [require_tool("readelf", "binutils"), "-n", report.path], capture_output=True, text=True, check=True
    ).stdout
    (build_id,) = re.findall(r"Build ID: ([0-9a-f]+)", notes)
    assert f"(BuildId: {build_id})" in report.bare
    other = build_id[:-2] + f"{int(build_id[-2:], 16) ^ 1:02x}"
    log = "".join(line for line in report.bare.splitlines(keepends=True) if str(report.path) in line)
    done = symbolize(log=log.replace(build_id, other))
    assert done.stdout.decode() == log.replace(build_id, other)
    assert build_id.encode() in done.stderr and other.encode() in done.stderr


def test_symbolized_frames_stay(reports: Callable[..., Reports], symbolize: Symbolize) -> None:
    report = reports("clang++", "address")
    own = "".join(line for line in report.symbolized.splitlines(keepends=True) if _FRAME.match(line))
    assert own_frames(own)
    assert symbolize(log=own).stdout.decode() == own


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_a_stack_is_a_trace(compiler: str, reports: Callable[..., Reports], symbolize: Symbolize) -> None:
    """JSON Lines: three stacks, with the frames of the text."""
    report = reports(compiler, "address")
    traces = [json.loads(line) for line in symbolize(log=report.bare, as_json=True).stdout.splitlines()]
    assert len(traces) == 3 == len(re.findall(r"^ +#0 ", report.bare, re.M))
    frames = [frame for trace in traces for frame in trace["frames"]]
    found = [
        (frame["function"], Path(frame["file"]).name, str(frame["line"]))
        for frame in frames
        if frame["file"] and Path(frame["file"]).name == "freed.cpp"
    ]
    assert found == own_frames(report.symbolized)
    pid = re.search(r"^==(\d+)==ERROR", report.bare, re.M)
    assert pid is not None and {trace["pid"] for trace in traces} == {int(pid[1])}
    assert {frame["inlined"] for frame in frames if frame["function"] and "::at(int)" in frame["function"]} == {True}
    outer = [frame for frame in frames if not frame["inlined"]]
    assert [frame["address"] for frame in outer] == re.findall(r"^ +#\d+ (0x[0-9a-f]+)", report.bare, re.M)
