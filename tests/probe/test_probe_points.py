"""Probe points: the words, and the places they resolve to, compared with what programs say of themselves."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from oracles.gdb import GdbOracle

from ptap.backend.live_capture import PlaceKind
from ptap.probe.point import ProbeKind, ProbeSyntaxError, parse_probe_point
from ptap.probe.program_path import PathNotFound, find_modules, find_program
from ptap.probe.resolve import ProbeNotFound, ResolvedPlace, Resolver


def resolve(text: str, command: tuple[str, ...] = (), pids: tuple[int, ...] = ()) -> list[ResolvedPlace]:
    return Resolver(command, pids).resolve(parse_probe_point(text))


def symbols(require_tool, program: Path) -> dict[str, list[int]]:
    """Addresses of the functions in a symbol table, by nm."""
    text = subprocess.run([require_tool("nm", "binutils"), str(program)], capture_output=True, text=True, check=True)
    found: dict[str, list[int]] = {}
    for line in text.stdout.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in "tT":
            found.setdefault(words[2], []).append(int(words[0], 16))
    return found


# --- the words


@pytest.mark.parametrize(
    ("text", "kind", "path", "function", "file", "line"),
    [
        ('process("a").function("f")', ProbeKind.FUNCTION, "a", "f", None, None),
        ('process("a").function("f").call', ProbeKind.CALL, "a", "f", None, None),
        ('process("a").function("f@x.c").inline', ProbeKind.INLINE, "a", "f", "x.c", None),
        ('process("a").function("f@x.c:3").return', ProbeKind.RETURN, "a", "f", "x.c", 3),
        (' process . function ( "f*" ) ', ProbeKind.FUNCTION, None, "f*", None, None),
        ('process("a b").statement("n::f<int>@d/x.c:12")', ProbeKind.STATEMENT, "a b", "n::f<int>", "d/x.c", 12),
    ],
)
def test_words_are_understood(text, kind, path, function, file, line):
    point = parse_probe_point(text)
    assert (point.kind, point.path, point.function, point.file, point.line) == (kind, path, function, file, line)


def test_other_words_are_understood():
    assert parse_probe_point('process("a").statement(0x1F)').address == 31
    assert parse_probe_point('kernel.trace("sched:sched_switch")').tracepoint == "sched:sched_switch"
    assert parse_probe_point("timer.profile(123)").frequency == 123
    assert parse_probe_point("timer.profile").kind is ProbeKind.TIMER


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "process", 'process("a")', 'process("a").function(f)', 'process("").function("f")',
        'process("a").function("")', 'process("a").function("f@x@y")', 'process("a").statement("f")',
        'process("a").statement("f@x.c")', 'process("a").statement("f@x.c:1").return', "timer.profile(0)",
        'kernel.trace("sched")', 'kernel.function("f")', 'process("a").function("f").retrun',
    ],
)  # fmt: skip
def test_other_words_are_refused_with_an_example(text):
    with pytest.raises(ProbeSyntaxError) as told:
        parse_probe_point(text)
    assert re.search(r'\("|samples a second|@FILE', str(told.value)), told.value


# --- places


def test_functions_lie_where_the_symbol_table_says(programs, require_tool):
    program = programs.build("orders")
    table = symbols(require_tool, program)
    found = [each for each in resolve(f'process("{program}").function("*").call') if each.file]
    assert len(found) > 5
    for each in found:
        name = re.search(r'function\("([^@"]+)', each.probe)
        assert name and each.address in table[name[1]]
        assert each.place.kind is PlaceKind.ENTRY and not each.inlined_into


def test_variants_of_a_function(programs):
    program = programs.build("inline_nest")
    every = resolve(f'process("{program}").function("middle_inline")')
    assert len(every) == 3 and all(each.inlined_into for each in every)
    inlined = resolve(f'process("{program}").function("middle_inline").inline')
    assert [each.place for each in inlined] == [each.place for each in every]
    for variant in ("call", "return"):
        with pytest.raises(ProbeNotFound, match="inlined everywhere"):
            resolve(f'process("{program}").function("middle_inline").{variant}')
    with pytest.raises(ProbeNotFound, match="no inlined copy"):
        resolve(f'process("{program}").function("first_owner").inline')
    (returning,) = resolve(f'process("{program}").function("first_owner").return')
    (entry,) = resolve(f'process("{program}").function("first_owner")')
    assert returning.place.kind is PlaceKind.RETURN and returning.address == entry.address


def test_static_functions_of_one_name_are_places_of_their_own(programs, require_tool, ptap_run):
    program = programs.build("static_same_name")
    found = resolve(f'process("{program}").function("refresh")')
    assert sorted(each.address for each in found) == sorted(symbols(require_tool, program)["refresh"])
    assert len({each.file for each in found}) == len(found) == 3
    one = resolve(f'process("{program}").function("refresh@static_same_name_first.c")')
    assert [each.file for each in one] == [each.file for each in found if "first" in each.file]
    values = {
        trace["frames"][0]["file"]: trace["frames"][0]["arguments"][0]["value"]
        for trace in ptap_run(['process.function("refresh")'], program)
    }
    assert {os.path.basename(file): value for file, value in values.items()} == {
        "static_same_name.c": "1", "static_same_name_first.c": "10", "static_same_name_second.c": "99",
    }  # fmt: skip


def test_wildcards_in_names_and_files(programs):
    program = programs.build("orders")
    every = resolve(f'process("{program}").function("*@*.c")')
    books = resolve(f'process("{program}").function("order_book_*")')
    assert {os.path.basename(each.file) for each in books} == {"order_book.c"}
    assert {each.address for each in books} < {each.address for each in every}
    by_file = resolve(f'process("{program}").function("*@order_b[no]ok.?")')
    assert {each.address for each in books} <= {each.address for each in by_file}
    assert {os.path.basename(each.file) for each in by_file} == {"order_book.c"}


def test_statements_lie_where_gdb_breaks(programs, gdb_oracle: GdbOracle):
    program = programs.build("orders")
    source = next(each.file for each in resolve(f'process("{program}").function("main")'))
    lines = [number for number in range(1, 80) if _has_code(program, number)]
    assert lines
    for number in lines[:4]:
        ours = resolve(f'process("{program}").statement("main@{os.path.basename(source)}:{number}")')
        theirs = gdb_lines(program, source, number)
        assert {each.address for each in ours} & theirs
        assert all(each.line == number and each.file == source for each in ours)


def _has_code(program: Path, number: int) -> bool:
    try:
        return bool(resolve(f'process("{program}").statement("main@orders.c:{number}")'))
    except ProbeNotFound:
        return False


def gdb_lines(program: Path, source: str, number: int) -> set[int]:
    words = ["gdb", "-nx", "-batch", "-ex", f"break {os.path.basename(source)}:{number}", "-ex", "info breakpoints"]
    text = subprocess.run([*words, str(program)], capture_output=True, text=True, check=True).stdout
    return {int(each, 16) for each in re.findall(r"0x[0-9a-f]{8,}", text)}


def test_an_address_is_a_place(programs, require_tool):
    program = programs.build("orders")
    address = symbols(require_tool, program)["apply_discount"][0]
    (place,) = resolve(f'process("{program}").statement({address:#x})')
    assert place.address == address
    with pytest.raises(ProbeNotFound, match="no address of code"):
        resolve(f'process("{program}").statement(0x7fffffff)')


# --- PATH


def test_programs_are_found_as_a_shell_does(programs, tmp_path, monkeypatch):
    program = programs.build("orders")
    link = tmp_path / "linked"
    link.symlink_to(program)
    assert find_program(str(link)) == str(program)
    assert resolve(f'process("{link}").function("main")')[0].place.path == str(program)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_program("linked") == str(program)
    assert find_program("ls") == os.path.realpath(shutil.which("ls") or "")
    monkeypatch.chdir(tmp_path)
    assert find_program("./linked") == str(program)
    with pytest.raises(PathNotFound):
        find_program("no-such-program")


def test_libraries_go_by_every_name(programs, require_tool):
    program = str(programs.build("orders"))
    listed = subprocess.run([require_tool("ldd", "libc-bin"), program], capture_output=True, text=True, check=True)
    libc = re.search(r"libc\.so\.6 => (\S+)", listed.stdout)
    assert libc
    for name in ("libc.so.6", "libc.so", "libc", libc[1]):
        assert find_modules(name, program, ()) == [os.path.realpath(libc[1])]


def test_the_command_itself_goes_by_its_name(programs):
    program = programs.build("orders")
    wanted = [str(program)]
    assert [each.place.path for each in resolve('process.function("main")', (str(program),))] == wanted
    name = os.path.basename(program)
    assert [each.place.path for each in resolve(f'process("{name}").function("main")', (str(program),))] == wanted


def test_running_processes_and_all_their_programs(programs):
    one, two = programs.build("deep_recursion"), Path(os.path.realpath(sys.executable))
    first = subprocess.Popen([str(one), "5"], stdin=subprocess.PIPE)
    first.wait()
    with pytest.raises(PathNotFound, match="no process"):
        resolve('process.function("main")', pids=(first.pid,))
    paths = {each.place.path for each in resolve('process.function("main")', pids=(os.getpid(),))}
    assert paths == {str(two)}
    with pytest.raises(PathNotFound, match="kernel thread"):
        resolve('process("libc.so.6").function("qsort")', pids=(2,))


@pytest.mark.parametrize("first_line", ["#!{shell}", "#! {shell} -e", "#!/usr/bin/env sh"])
def test_a_script_stands_for_its_interpreter(tmp_path, first_line):
    shell = shutil.which("sh")
    assert shell
    script = tmp_path / "script"
    script.write_text(first_line.format(shell=shell) + "\nexit 4\n")
    script.chmod(0o755)
    point = parse_probe_point('process.function("no_such_function_in_a_shell")')
    with pytest.raises(ProbeNotFound, match=re.escape(os.path.realpath(shell))):
        Resolver((str(script),), ()).resolve(point)


# --- whole runs


@pytest.fixture
def ptap_run(tmp_path):
    """Traces of a program by ptap with any of the back ends."""

    def run(probes: list[str], program: Path, *options: str) -> list[dict]:
        output = tmp_path / "traces.json"
        words = ["--backtrace", "--format", "json", "-o", str(output), *options, *probes, "--", str(program)]
        command = [sys.executable, "-m", "ptap", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert "Traceback" not in done.stderr and output.exists(), done.stderr
        return [json.loads(line) for line in output.read_text().splitlines()]

    return run


@pytest.mark.parametrize("backend", ["ptrace", "perf"])
def test_several_probes_and_two_at_one_address(programs, ptap_run, backend):
    from ptap.backend.choice import BACK_ENDS

    if reason := BACK_ENDS[backend]():
        pytest.skip(reason)
    program = programs.build("orders")
    (place,) = resolve(f'process("{program}").function("apply_discount")')
    probes = [
        'process.function("apply_discount")',
        f"process.statement({place.address:#x})",
        'process.function("main")',
    ]
    traces = ptap_run(probes, program, "--backend", backend)
    kinds = [re.sub(r".*\)\.(\w+)\(\"?(\w+).*", r"\1 \2", trace["probe"]) for trace in traces]
    assert kinds[0] == "function main" and kinds.count("function main") == 1
    functions = [each for each in kinds if each == "function apply_discount"]
    statements = [each for each in kinds if each.startswith("statement")]
    assert len(functions) == len(statements) > 1
    at = [trace["time_ns"] for trace, kind in zip(traces, kinds, strict=True) if kind == "function apply_discount"]
    assert at == [trace["time_ns"] for trace, kind in zip(traces, kinds, strict=True) if kind.startswith("statement")]


def test_a_tracepoint_has_kernel_and_user_frames(programs, ptap_run):
    from ptap.backend.choice import BACK_ENDS

    if reason := BACK_ENDS["perf"]():
        pytest.skip(reason)
    traces = ptap_run(['kernel.trace("raw_syscalls:sys_enter")'], programs.build("orders"))
    writing = [trace for trace in traces if any((f["function"] or "").endswith("write") for f in trace["frames"])]
    assert writing
    known = {line.split()[2] for line in Path("/proc/kallsyms").read_text().splitlines()}
    for trace in writing:
        spaces = [frame["space"] for frame in trace["frames"]]
        assert spaces == sorted(spaces) and set(spaces) == {"kernel", "user"}
        kernel = [frame["function"] for frame in trace["frames"] if frame["space"] == "kernel"]
        assert set(kernel) <= known and any("do_syscall_64" in name for name in kernel)
        assert trace["stop"] == "end_of_stack"
        assert {"_start"} & {frame["function"] for frame in trace["frames"]}


def test_a_timer_samples_what_runs(ptap_run, tmp_path, require_tool):
    from ptap.backend.choice import BACK_ENDS

    if reason := BACK_ENDS["perf"]():
        pytest.skip(reason)
    source = tmp_path / "spin.c"
    source.write_text(
        "__attribute__((noinline)) long spin(long n) { long s = 0; for (long i = 0; i < n; i++)"
        ' { s += i; __asm__ volatile("" : "+r"(s)); } return s; }\n'
        "int main(void) { return spin(600000000L) == 1; }\n"
    )
    program = tmp_path / "spin"
    subprocess.run([require_tool("gcc", "gcc"), "-O2", "-g", str(source), "-o", str(program)], check=True)
    traces = ptap_run(["timer.profile(200)"], program)
    inside = [trace for trace in traces if "spin" in [frame["function"] for frame in trace["frames"]]]
    assert len(inside) > len(traces) / 2 > 2
    for trace in inside:
        names = [frame["function"] for frame in trace["frames"] if frame["space"] == "user"]
        assert names[:2] == ["spin", "main"] and trace["stop"] == "end_of_stack"


@pytest.mark.parametrize("mangling", ["legacy", "v0"])
def test_rust_names(ptap_run, tmp_path, mangling, require_tool):
    rustc = require_tool("rustc", "rustc")
    source = tmp_path / "shop.rs"
    source.write_text(
        "mod till { pub struct Till { pub sum: u64 }\n"
        " impl Till { #[inline(never)] pub fn add(&mut self, cents: u64) -> u64 { self.sum += cents; self.sum } }\n"
        " #[inline(never)] pub fn twice<T: Copy + Into<u64>>(value: T) -> u64 { value.into() * 2 } }\n"
        "fn main() { let mut till = till::Till { sum: 0 };\n"
        " let n = std::env::args().count() as u32; std::process::exit((till.add(till::twice(n)) != 2) as i32) }\n"
    )
    program = tmp_path / "shop"
    # Every rustc has one of the manglings as a stable option only; this lets it take the other too.
    flags = ["-g", "-O", "-Zunstable-options", "-C", f"symbol-mangling-version={mangling}"]
    environment = {**os.environ, "RUSTC_BOOTSTRAP": "1"}
    command = [rustc, *flags, str(source), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    traces = ptap_run(['process.function("*twice*")', 'process.function("*add@shop.rs")'], program)
    innermost = [trace["frames"][0]["function"] for trace in traces]
    assert len(innermost) == 2 and "shop::till::twice" in innermost[0] and "till::" in innermost[1]
    for trace in traces:
        names = [frame["function"] or "" for frame in trace["frames"]]
        assert "shop::main" in names and not any(re.match(r"_ZN|_R", name) for name in names)
        assert trace["frames"][0]["file"] == str(source)
