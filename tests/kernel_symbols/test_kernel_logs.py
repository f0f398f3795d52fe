"""Frames of kernel logs: written from vmlinux's symbols as the kernel prints them, against llvm-symbolizer.

The sizes behind the slash are computed here from nm's list, as the kernel does from its own: up to the next symbol.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import re
import struct
import subprocess
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from loaded_kernel import LoadedKernel

from cfi_tables.elf_image import ElfImage
from ptap.cli.symbolize_log import symbolize_log
from ptap.text_log.file_source import FileSources
from ptap.text_log.kernel_source import KernelSource
from ptap.text_log.log_reader import LogReader
from unwind.kernel.kernel_symbolizer import KernelSources
from unwind.symbolize.symbolizer import FEW

pytestmark = pytest.mark.xdist_group("kernel_symbols")

RequireTool = Callable[[str, str], str]
Frames = list[tuple[str, str, int]]
"""(function, file, line), innermost first."""


@dataclass(frozen=True)
class Function:
    """A function as the kernel lists it."""

    name: str
    address: int
    size: int

    def at(self, offset: int) -> str:
        return f"{self.name}+{offset:#x}/{self.size:#x}"


@pytest.fixture(scope="module")
def functions(debug_files: tuple[Path, Path]) -> list[Function]:
    """The functions of vmlinux that are written in C, by address."""
    vmlinux, _ = debug_files
    listed = subprocess.run(["nm", "-n", vmlinux], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    sized = subprocess.run(["readelf", "-sW", vmlinux], capture_output=True, text=True, check=True).stdout
    of_c = set(re.findall(r"^ *\d+: ([0-9a-f]{16}) +[1-9]\d* FUNC", sized, re.M))
    code = [(int(row[0], 16), row[2]) for row in rows if len(row) == 3 and row[1] in "tTwW"]
    starts = sorted({address for address, _ in code})
    following = dict(itertools.pairwise(starts))
    return [
        Function(name, address, following[address] - address)
        for address, name in code
        if f"{address:016x}" in of_c and address in following and "." not in name
    ]


@pytest.fixture(scope="module")
def oracle(debug_files: tuple[Path, Path], require_tool: RequireTool) -> Callable[[Iterable[int]], list[Frames]]:
    tool = require_tool("llvm-symbolizer-14", "llvm-14")

    def frames(addresses: Iterable[int]) -> list[Frames]:
        text = subprocess.run(
            [tool, "--inlines", "--output-style=JSON", "-e", debug_files[0]],
            input="".join(f"{address:#x}\n" for address in addresses), capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        return [
            [(each["FunctionName"], Path(each["FileName"]).name, each["Line"]) for each in json.loads(line)["Symbol"]]
            for line in text.splitlines()
        ]

    return frames


@pytest.fixture
def rewrite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """`rewrite(log, KernelSources(…))`: the log, and what is said at the end; of a file's when `kept`.

    An index of vmlinux takes half a minute: lists of lines are rewritten in logs of so few that none is made.
    """
    monkeypatch.delenv("DEBUGINFOD_URLS", raising=False)

    def run(
        log: str | list[str], sources: KernelSources, *, kept: bool = False, as_json: bool = False
    ) -> tuple[str, str]:
        if isinstance(log, list):
            parts = [log[at : at + FEW // 2] for at in range(0, len(log), FEW // 2)]
            done = [run("".join(f"{line}\n" for line in part), sources) for part in parts]
            return "".join(text for text, _ in done), "\n".join(notes for _, notes in done)
        (tmp_path / "log").write_text(log)
        reader = LogReader(FileSources(), KernelSource(sources))
        output = io.BytesIO()
        with open(tmp_path / "log", "rb") as file:
            if kept:
                symbolize_log(reader, file.fileno(), output, as_json)
            else:
                with subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) as through:
                    assert through.stdout is not None
                    symbolize_log(reader, through.stdout.fileno(), output, as_json)
        return output.getvalue().decode(), "\n".join(reader.closing_lines())

    return run


def unlike(functions: list[Function]) -> list[Function]:
    """Those of whose name and size there is one."""
    count: dict[tuple[str, int], int] = defaultdict(int)
    for each in functions:
        count[each.name, each.size] += 1
    return [each for each in functions if count[each.name, each.size] == 1 and each.size >= 32]


def told(lines: Iterable[str]) -> list[list[tuple[str, str, int]]]:
    """(function, file, line) of the lines of each frame, innermost first."""
    found: list[list[tuple[str, str, int]]] = [[]]
    for line in lines:
        line = line.removesuffix(" (unreliable)")
        match = re.search(r"([\w.]+)(?:\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[[^]]*\])?)? at (\S+):(\d+)( \[inlined\])?$", line)
        if match is not None:
            found[-1].append((match[1], Path(match[2]).name, int(match[3])))
        if match is None or match[4] is None:
            found.append([])
    return found[:-1]


def same(mine: Frames, theirs: Frames) -> bool:
    """Of the outermost function's name llvm-symbolizer takes one of several symbols; the line tells it is the same."""
    return [each[1:] for each in mine] == [each[1:] for each in theirs] and [each[0] for each in mine[:-1]] == [
        each[0].partition(".")[0] for each in theirs[:-1]
    ]


FORMS = {
    "[  123.456789]  {}": -1,
    "<4>[  123.456789][  T101]  ? {}": -1,
    "Nov 23 17:00:00 host kernel: [  123.456789]  {}": -1,
    "[<0>] {}": -1,
    "[  123.456789] RIP: 0010:{}": 0,
    "[  123.456789] pc : {}": 0,
    "[  123.456789] PC is at {}": 0,
    "[  123.456789] NIP [{address:016x}] {}": 0,
    "[c000000fe1234560] [{address:016x}] {} (unreliable)": -1,
    " [<{address:016x}>] {}": -1,
    " [<{address:016x}>] ? {}": -1,
    "[  123.456789] RIP: 0010:[<{address:016x}>]  [<{address:016x}>] {}": 0,
}
"""What the kernel prints → how far the code that ran lies from the address."""


def test_frames_are_llvm_symbolizers(
    functions: list[Function],
    oracle: Callable[[Iterable[int]], list[Frames]],
    debug_files: tuple[Path, Path],
    rewrite: Callable[..., tuple[str, str]],
) -> None:
    """Every form, forty places: return addresses are looked up in the call, what ran as it is."""
    chosen = random.Random(11).sample(unlike(functions), 40)
    places = [(function, function.size // 2) for function in chosen]
    forms = list(itertools.islice(itertools.cycle(FORMS.items()), len(places)))
    slide = 0x1A60_0000
    lines = [
        form.format(function.at(offset), address=function.address + offset + slide)
        for (form, _), (function, offset) in zip(forms, places, strict=True)
    ]
    theirs = oracle(
        function.address + offset + step for (_, step), (function, offset) in zip(forms, places, strict=True)
    )
    text, notes = rewrite(lines, KernelSources(vmlinux=str(debug_files[0])))
    mine = told(text.splitlines())
    assert len(mine) == len(theirs)
    compared = inlined = 0
    for line, found, wanted in zip(lines, mine, theirs, strict=True):
        if wanted[0][2] and not wanted[0][1].endswith(".S"):
            assert same(found, wanted), line
            compared += 1
            inlined += len(wanted) > 1
    assert compared > 25 and inlined > 2
    kept = [line for line in text.splitlines() if not line.endswith(" [inlined]")]
    assert all(
        after.startswith(before.removesuffix(" (unreliable)")) for after, before in zip(kept, lines, strict=True)
    )
    assert "another build" not in notes


def test_functions_of_one_name_are_told_apart_by_size(
    functions: list[Function],
    oracle: Callable[[Iterable[int]], list[Frames]],
    debug_files: tuple[Path, Path],
    rewrite: Callable[..., tuple[str, str]],
) -> None:
    by_name: dict[str, list[Function]] = defaultdict(list)
    for function in functions:
        by_name[function.name].append(function)
    several = [each for each in by_name.values() if len(each) > 1]
    apart = [group for group in several if len({each.size for each in group}) == len(group)][:4]
    alike = [group for group in several if len({each.size for each in group}) == 1 and len(group) < 9][:6]
    assert len(apart) == 4 and len(alike) == 6
    sources = KernelSources(vmlinux=str(debug_files[0]))
    lines = [f" {each.at(each.size // 2)}" for group in apart for each in group]
    wanted = oracle(each.address + each.size // 2 - 1 for group in apart for each in group)
    text, _ = rewrite(lines, sources)
    found = told(text.splitlines())
    assert len(found) == len(wanted) and all(
        same(mine, theirs) for mine, theirs in zip(found, wanted, strict=True) if theirs[0][2]
    )
    # Of those with one size every one is told, unless they are one in the source.
    theirs = iter(oracle(each.address + each.size // 2 - 1 for group in alike for each in group))
    texts = [rewrite(f" {group[0].at(group[0].size // 2)}\n", sources)[0] for group in alike]
    rows = [line for text in texts for line in text.splitlines() if not line.endswith(" [inlined]")]
    compared: list[tuple[Function, list[Frames]]] = []
    for group, row in zip(alike, rows, strict=True):
        wanted = list(itertools.islice(theirs, len(group)))
        places = {frames[-1][1:] for frames in wanted}
        if len(places) > 1 and all(each[2] for frames in wanted for each in frames):
            assert "[ambiguous: " in row
            assert {
                (Path(path).name, int(line)) for path, line in re.findall(r"(?: at | or )(\S+):(\d+)", row)
            } == places
            compared.append((group[0], wanted))
    assert compared
    # In JSON each of them stands with its frames.
    function, wanted = compared[0]
    (frame,) = json.loads(rewrite(f" {function.at(function.size // 2)}\n", sources, as_json=True)[0])["frames"]
    assert frame["function"] == function.name and frame["file"] is None
    choices = {tuple((Path(each["file"]).name, each["line"]) for each in frames) for frames in frame["choices"]}
    assert choices == {tuple(each[1:] for each in frames) for frames in wanted}


def test_an_arm64_oops_repeats_its_pc(
    functions: list[Function],
    oracle: Callable[[Iterable[int]], list[Frames]],
    debug_files: tuple[Path, Path],
    rewrite: Callable[..., tuple[str, str]],
) -> None:
    """First in the trace is what ran; the same function further below is one that was called from."""
    chosen = [each for each in random.Random(9).sample(unlike(functions), 200) if 100 < each.size < 600][:30]
    frames = iter(oracle(address for each in chosen for address in range(each.address, each.address + each.size)))
    # Places where the instruction before is of another line.
    places = [
        (function, offset, before[0][2], here[0][2])
        for function in chosen
        for offset, (before, here) in enumerate(itertools.pairwise(itertools.islice(frames, function.size)), 1)
        if len(before) == len(here) == 1 and 0 != before[0][2] != here[0][2] != 0
    ]
    function, offset, called, ran = places[0]
    words = function.at(offset)
    log = f"[ 1.0] pc : {words}\n[ 1.0] lr : {words}\n[ 1.0] sp : ffff80001234\n[ 1.0] Call trace:\n"
    text, _ = rewrite(log + f"[ 1.0]  {words}\n[ 1.0]  {words}\n", KernelSources(vmlinux=str(debug_files[0])))
    lines = [int(line.rpartition(":")[2]) for line in text.splitlines() if "+0x" in line]
    assert lines == [ran, called, ran, called]


def test_warnings_are_where_the_kernel_says(
    functions: list[Function], debug_files: tuple[Path, Path], rewrite: Callable[..., tuple[str, str]]
) -> None:
    """Each WARN() has its file and line in the kernel's own table of bugs, which it prints from."""
    image = ElfImage.open(debug_files[0])
    section = image.sections["__bug_table"]
    # struct bug_entry of x86: distances of the instruction and of the file's name from themselves, line, flags
    size = struct.calcsize("<iiHH")
    rows = [struct.unpack_from("<iiHH", image.section_data("__bug_table"), at) for at in range(0, section.size, size)]
    bugs = [
        (section.address + number * size + code, section.address + number * size + 4 + file, line)
        for number, (code, file, line, flags) in enumerate(rows)
        if flags & 1
    ]
    known = unlike(functions)
    starts = [each.address for each in known]
    lines, wanted = [], []
    for address, file, line in random.Random(2).sample(bugs, 32):
        function = known[bisect_right(starts, address) - 1]
        if address < function.address + function.size:
            name = image.read(file, 200).split(b"\0")[0].decode()
            words = function.at(address - function.address)
            lines.append(f"[   1.000000] WARNING: CPU: 0 PID: 1 at {name}:{line} {words}")
            lines.append(f"[   1.000000] RIP: 0010:{words}")
            wanted.append((Path(name).name, line))
    text, _ = rewrite(lines, KernelSources(vmlinux=str(debug_files[0])))
    rows_told = [line for line in text.splitlines() if "RIP" in line]
    found = [frames[0][1:] for frames in told(rows_told)]
    # The compiler may count a line of a macro over several lines from its end.
    alike = [mine == theirs for mine, theirs in zip(found, wanted, strict=True)]
    assert len(wanted) > 10 and sum(alike) > 0.95 * len(alike)
    # The headline is a sentence: inlined calls stand in it, the innermost first.
    heads = [line.replace(" [inlined]", "").split("/0x", 1)[1] for line in text.splitlines() if "WARNING" in line]
    shown = [re.findall(r" at (\S+?):(\d+)", line) for line in heads]
    innermost = [rows[1] if len(rows) > 1 else rows[0] for rows in shown]
    assert [(Path(file).name, int(line)) for file, line in innermost] == found


def oops(function: Function, caller: Function, release: str) -> str:
    """What the kernel prints of a warning, with the task that it tells of."""
    ran, called = function.size // 2, caller.size // 2
    return f"""\
[   30.373328] ------------[ cut here ]------------
[   30.373330] CPU: 1 PID: 100 Comm: work er Tainted: G           OE      {release} #1  Debian
[   30.373331] RIP: 0010:{function.at(ran)}
[   30.373332] Code: ff ff a9 00 <0f> 0b
[   30.373333] RAX: 0000000000000000 RBX: ffffc9000354f358 RCX: 0000000000000000
[   30.373334] Call Trace:
[   30.373335]  <TASK>
[   30.373336]  ? {caller.at(called)}
[   30.373337]  {caller.at(called)}
[   30.373338]  </TASK>
[   30.373339] ---[ end trace 0000000000000000 ]---
"""


def test_an_oops_is_a_trace(
    functions: list[Function],
    oracle: Callable[[Iterable[int]], list[Frames]],
    debug_files: tuple[Path, Path],
    rewrite: Callable[..., tuple[str, str]],
) -> None:
    """One JSON object: what ran, then what called it, with the task and the time."""
    # Where both have lines; little of the kernel has none.
    some = random.Random(5).sample(unlike(functions), 20)
    ran, called = (oracle(each.address + each.size // 2 - step for each in some) for step in (0, 1))
    function, caller = [
        each
        for each, frames in zip(some, zip(ran, called, strict=True), strict=True)
        if all(row[2] for stack in frames for row in stack)
    ][:2]
    release = debug_files[0].name.removeprefix("vmlinux-")
    log = oops(function, caller, release)
    text, _ = rewrite(log, KernelSources(vmlinux=str(debug_files[0])), as_json=True)
    (trace,) = map(json.loads, text.splitlines())
    assert (trace["cpu"], trace["pid"], trace["comm"]) == (1, 100, "work er")
    assert trace["time_ns"] == 30_373_331_000
    outer = [frame for frame in trace["frames"] if not frame["inlined"]]
    assert [int(frame["address"], 16) for frame in outer] == [
        function.address + function.size // 2,
        *[caller.address + caller.size // 2] * 2,
    ]
    assert [frame.get("unreliable", False) for frame in outer] == [False, True, False]
    wanted = oracle([function.address + function.size // 2, *[caller.address + caller.size // 2 - 1] * 2])
    found = [(Path(frame["file"]).name, frame["line"]) for frame in trace["frames"]]
    assert found == [each[1:] for frames in wanted for each in frames]


def test_a_log_of_another_kernel_stays(
    functions: list[Function], debug_files: tuple[Path, Path], rewrite: Callable[..., tuple[str, str]]
) -> None:
    """By its release, by the build-id that it tells, by a function's size; and where nothing tells of its kernel."""
    function, caller = random.Random(6).sample(unlike(functions), 2)
    vmlinux = KernelSources(vmlinux=str(debug_files[0]))
    release = debug_files[0].name.removeprefix("vmlinux-")
    log = oops(function, caller, "4.19.0-nowhere")
    text, notes = rewrite(log, vmlinux)
    assert text == log and "4.19.0-nowhere" in notes and release in notes
    other = "0123456789abcdef0123456789abcdef01234567"
    log = oops(function, caller, release).replace("#1  Debian", f"#1 {other}")
    text, notes = rewrite(log, vmlinux)
    shown = subprocess.run(["readelf", "-n", debug_files[0]], capture_output=True, text=True, check=True).stdout
    (own,) = re.findall(r"Build ID: ([0-9a-f]+)", shown)
    assert text == log and other in notes and own in notes
    assert rewrite(log.replace(other, own), vmlinux)[0] != log
    resized = f" {function.name}+0x4/{function.size + 8:#x}\n no_such_function+0x4/0x20\n"
    text, notes = rewrite(resized, vmlinux)
    assert text == resized and "other sizes" in notes and "no_such_function" in notes
    text, notes = rewrite(oops(function, caller, "4.19.0-nowhere"), KernelSources())
    assert "4.19.0-nowhere" in notes and os.uname().release in notes and " at " not in text


def test_addresses_alone(running: LoadedKernel, functions: list[Function], rewrite: Callable[..., tuple[str, str]],
                         oracle: Callable[[Iterable[int]], list[Frames]]) -> None:  # fmt: skip
    """By the log's own word of how far the kernel was moved, by addresses beside names, or by kallsyms."""
    chosen = random.Random(8).sample(unlike(functions), FEW - 4)
    lines = [f" [<{each.address + each.size // 2 + running.slide:016x}>]" for each in chosen]
    offset = f"[   99.1] Kernel Offset: {running.slide:#x} from 0xffffffff81000000 (relocation range: 0xffffffff8)"
    frames = oracle(each.address + each.size // 2 - 1 for each in chosen)
    wanted = [each for each in frames if each[0][2]]
    vmlinux = KernelSources(vmlinux=str(running.vmlinux))
    bare = "\n".join(lines) + "\n"
    kept, _ = rewrite(f"{bare}{offset}\n", vmlinux, kept=True)
    named = told(kept.splitlines()[:-1])
    assert [each for each in named if each] and all(
        same(mine, theirs) for mine, theirs in zip(named, frames, strict=True) if theirs[0][2]
    )
    assert len(wanted) > 5 and kept.endswith(f"{offset}\n")
    # A pipe tells it too late, or before.
    late, notes = rewrite(f"{bare}{offset}\n", vmlinux)
    assert late == f"{bare}{offset}\n" and "--slide" in notes
    early, _ = rewrite(f"{offset}\n{bare}", vmlinux)
    assert early.removeprefix(f"{offset}\n") == kept.removesuffix(f"{offset}\n")
    first = chosen[0]
    beside = f" [<{first.address + 8 + running.slide:016x}>] {first.at(8)}\n"
    by_name, _ = rewrite(beside + bare, vmlinux)
    assert by_name.splitlines()[-len(kept.splitlines()) + 1 :] == kept.splitlines()[:-1]
    listed, _ = rewrite(bare, KernelSources(vmlinux=str(running.vmlinux), kallsyms=str(running.kallsyms)))
    assert listed == kept.removesuffix(f"{offset}\n")


def test_a_modules_frames_are_addr2lines(
    running: LoadedKernel, require_tool: RequireTool, rewrite: Callable[..., tuple[str, str]]
) -> None:
    """With the build-id that kernels may print, and without; with another's they stay."""
    (module,) = running.modules
    text = subprocess.run(["readelf", "-sW", module.path], capture_output=True, text=True, check=True).stdout
    sections = subprocess.run(["readelf", "-SW", module.path], capture_output=True, text=True, check=True).stdout
    number = re.findall(r"\[ *(\d+)\] \.text +PROGBITS", sections)[0]
    rows = re.findall(rf"^ *\d+: ([0-9a-f]+) +\S+ (?:FUNC|NOTYPE) +\S+ +\S+ +{number} (\S+)$", text, re.M)
    starts = sorted({int(value, 16) for value, _ in rows})
    following = dict(itertools.pairwise(starts))
    names: dict[str, list[int]] = defaultdict(list)
    for value, name in rows:
        names[name].append(int(value, 16))
    chosen = [(name, values[0]) for name, values in names.items() if len(values) == 1 and values[0] in following]
    chosen = random.Random(4).sample([each for each in chosen if "." not in each[0]], FEW)
    notes = subprocess.run(["readelf", "-n", module.path], capture_output=True, text=True, check=True).stdout
    (own,) = re.findall(r"Build ID: ([0-9a-f]+)", notes)
    places = [(name, start, (following[start] - start) // 2) for name, start in chosen if following[start] - start > 16]
    oracle = subprocess.run(
        [require_tool("addr2line", "binutils"), "-fiC", "-j", ".text", "-e", module.path,
         *[hex(start + offset - 1) for _, start, offset in places], "0x0"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    lines = [int(line) for line in re.findall(r":(\d+)(?: \(discriminator \d+\))?$", oracle, re.M)]
    sources = KernelSources(vmlinux=str(running.vmlinux), module_folders=(str(module.path.parent),))
    for mark in (f"[{module.name}]", f"[{module.name} {own}]"):
        log = "".join(
            f"[ 1.0]  {name}+{offset:#x}/{following[start] - start:#x} {mark}\n" for name, start, offset in places
        )
        found, _ = rewrite(log, sources)
        mine = [int(line) for line in re.findall(r":(\d+)(?: \[inlined\])?$", found, re.M)]
        assert len(mine) > FEW // 2 and mine == lines[: len(mine)]
    other = own[:-1] + ("0" if own[-1] != "0" else "1")
    text, said = rewrite(log.replace(own, other), sources)
    assert text == log.replace(own, other) and own in said and other in said
    text, said = rewrite(log, KernelSources(vmlinux=str(running.vmlinux)))
    assert text == log and "--module-dir" in said


def test_a_process_kernel_stack_without_vmlinux_stays(
    running: LoadedKernel, rewrite: Callable[..., tuple[str, str]]
) -> None:
    """/proc/self/stack, where this machine shows it: kallsyms alone has no lines to add."""
    try:
        stack = Path("/proc/self/stack").read_text()
    except OSError:
        stack = ""
    stack += "[<0>] do_syscall_64+0x71/0x280\n"
    text, notes = rewrite(stack, KernelSources(kallsyms=str(running.kallsyms)))
    assert text == stack and "--vmlinux" in notes
