"""What cannot be done is told in one message with status 2: what was meant, or damaged, what to do; no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

FLAGS = ["-O2", "-g", "-fomit-frame-pointer"]


@pytest.fixture(scope="module")
def orders(tmp_path_factory, programs):
    """The example program, where files beside it may be put."""
    path = tmp_path_factory.mktemp("orders") / "orders"
    path.write_bytes(programs.build("orders").read_bytes())
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Tables of damaged files must not be taken from, or put into, the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def refusal(ptap, *arguments: str) -> str:
    """The one line that ptap ends with."""
    run = ptap.run(*arguments)
    assert run.status == 2 and run.stdout == "" and "Traceback" not in run.stderr, run.stderr
    (line,) = run.stderr.splitlines()
    assert line.startswith("ptap: ")
    return line


def test_an_unknown_function_names_the_nearest(ptap, orders):
    for wrong in ("aply", "discount", "aply_discount", "Apply_Discount"):
        assert "nearest names: apply_discount" in refusal(ptap, "list", f'process("{orders}").function("{wrong}")')
    nothing = refusal(ptap, "list", f'process("{orders}").function("zzz")')
    assert "nearest" not in nothing and "ptap list" in nothing


def test_an_unknown_file_or_line_names_the_nearest(ptap, orders):
    assert "discounts.c" in refusal(ptap, "list", f'process("{orders}").function("apply_discount@discount.c")')
    line = refusal(ptap, "list", f'process("{orders}").statement("apply_discount@discounts.c:1")')
    nearest = [int(each) for each in line.rpartition("code: ")[2].split(",")]
    for each in nearest:
        assert ptap.run("list", f'process("{orders}").statement("apply_discount@discounts.c:{each}")').status == 0


def test_an_unknown_program_or_library_names_the_nearest(ptap, orders):
    assert str(orders) in refusal(ptap, "list", f'process("{orders}x").function("main")')
    assert "libc.so.6" in refusal(ptap, 'process("libd.so").function("qsort")', "--", str(orders))
    assert "there is no directory" in refusal(ptap, "list", 'process("/nowhere/x").function("main")')
    assert "cat" in refusal(ptap, 'process.function("main")', "--", "catt")


def test_words_that_are_no_probe(ptap, orders):
    assert "behind `--`" in refusal(ptap, 'process.function("main")', "orders", "--", str(orders))
    assert "double quotes" in refusal(ptap, "process.function(main)", "--", str(orders))
    assert "begins with process" in refusal(ptap, 'procss("x").function("main")', "--", str(orders))
    assert "no probe given" in refusal(ptap, "--backtrace", "--", str(orders))
    assert "nothing to trace" in refusal(ptap, 'process.function("main")')
    assert "not both" in refusal(ptap, 'process.function("main")', "-p", "1", "--", str(orders))


def test_files_that_are_no_programs(ptap, orders, tmp_path):
    empty, text, directory, pipe = (tmp_path / name for name in ("empty", "text", "directory", "pipe"))
    empty.touch(mode=0o755)
    text.write_text("no program\n")
    text.chmod(0o755)
    directory.mkdir()
    os.mkfifo(pipe)
    for path, reason in ((empty, "empty"), (text, "no ELF file"), (directory, "directory"), (pipe, "no regular file")):
        probe = f'process("{path}").function("main")'
        assert reason in refusal(ptap, "list", probe)
        assert reason in refusal(ptap, probe, "--", str(orders))
        assert reason in refusal(ptap, "tables", "show", str(path))
        assert str(path) in refusal(ptap, 'process.function("main")', "--", str(path))


def test_a_program_of_another_architecture(ptap, orders, tmp_path):
    foreign = tmp_path / "foreign"
    data = bytearray(orders.read_bytes())
    data[18:20] = (183).to_bytes(2, "little")  # e_machine: EM_AARCH64
    foreign.write_bytes(data)
    data[18:20] = (243).to_bytes(2, "little")  # EM_RISCV, for which not even tables are built
    unknown = tmp_path / "unknown"
    unknown.write_bytes(data)
    assert "x86-64, i386, aarch64" in refusal(ptap, "tables", "show", str(unknown))
    for words in (["list"], ["--backtrace"]):
        command = [] if words == ["list"] else ["--", str(orders)]
        assert "aarch64" in refusal(ptap, *words, f'process("{foreign}").function("main")', *command)


def test_a_process_that_is_not_there(ptap, orders, backend):
    probe = f'process("{orders}").function("main")'
    gone = subprocess.Popen(["true"])
    gone.wait()
    for each in (probe, 'process.function("main")'):
        assert f"no process {gone.pid}" in refusal(ptap, "--backend", backend, each, "-p", str(gone.pid))


def test_a_process_that_is_traced_already(ptap, require_tool, orders):
    strace = require_tool("strace", "strace")
    target = subprocess.Popen(["sleep", "100"])
    tracer = subprocess.Popen([strace, "-o", os.devnull, "-p", str(target.pid)], stderr=subprocess.PIPE)
    try:
        assert tracer.stderr is not None and b"attached" in tracer.stderr.readline()
        line = refusal(ptap, "--backend", "ptrace", 'process("libc.so.6").function("*sleep")', "-p", str(target.pid))
        assert "already traced" in line and str(tracer.pid) in line
    finally:
        tracer.terminate()
        tracer.communicate()
        target.kill()
        target.wait()


@pytest.mark.parametrize("eighths", range(9))
def test_a_truncated_program_is_refused_or_works(ptap, orders, tmp_path, eighths):
    data = orders.read_bytes()
    whole = ptap.run("list", f'process("{orders}").function("*")').lines
    for length in (len(data) * eighths // 8 + extra for extra in (-64, -1, 1, 20)):
        if not 0 <= length < len(data):
            continue
        path = tmp_path / "truncated"
        path.write_bytes(data[:length])
        script = "import sys; from ptap.cli.main import main; main()"
        for words in (["list", f'process("{path}").function("*")'], ["tables", "show", str(path)]):
            done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=100)
            assert "Traceback" not in done.stderr
            if done.returncode == 0:
                assert words[0] != "list" or len(done.stdout.splitlines()) == len(whole)
            else:
                assert done.returncode == 2 and str(path) in done.stderr
                assert length == 0 or any(word in done.stderr for word in ("ELF", "section", "segment", "."))


def damaged(program: Path, section: str, path: Path) -> Path:
    """A copy of a program with the contents of one section overwritten."""
    with program.open("rb") as file:
        found = ELFFile(file).get_section_by_name(section)
        assert found is not None
        offset, size = found["sh_offset"], found["sh_size"]
    data = bytearray(program.read_bytes())
    for at in range(offset, offset + size):
        data[at] = (at * 37 + 11) & 255
    path.write_bytes(data)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("section", [".debug_info", ".debug_abbrev", ".debug_line"])
def test_damaged_debug_information_leaves_symbol_names(ptap, orders, tmp_path, backend, section):
    path = damaged(orders, section, tmp_path / "damaged")
    run = ptap.trace('process.function("apply_discount")', [path], backend=backend)
    good = ptap.trace('process.function("apply_discount")', [orders], backend=backend)
    assert "Traceback" not in run.stderr and len(run.traces) == len(good.traces) > 0
    for index, trace in enumerate(run.traces):
        assert trace["stop"] == "end_of_stack"
        names = [frame["function"] for frame in trace["frames"] if not frame["inlined"]]
        assert names == [frame["function"] for frame in good.traces[index]["frames"] if not frame["inlined"]]
    assert f"ptap: {path}: debug information left out: {'.debug'}" in run.stderr


def test_damaged_call_frames_of_one_module_leave_the_others(ptap, orders, tmp_path, backend):
    path = damaged(orders, ".eh_frame", tmp_path / "damaged")
    probes = ['process.function("apply_discount")', 'process("libc.so.6").function("qsort")']
    run = ptap.trace(probes, [path], backend=backend)
    assert "Traceback" not in run.stderr and "call frame information" in run.stderr
    assert {trace["stop"] for trace in run.traces} <= {"no_row", "no_table"}
    stacks = {run.functions(index)[0]: run.functions(index) for index in range(len(run.traces))}
    assert stacks["apply_discount"] == ["apply_discount"]
    sorting = next(stack for name, stack in stacks.items() if name and "qsort" in name)
    assert sorting[1] == "main", "libc's own table still finds its caller"


def test_no_call_frame_information_is_no_end_of_the_stack(ptap, require_tool, tmp_path, backend):
    program = tmp_path / "bare"
    source = tmp_path / "bare.c"
    source.write_text(
        '__attribute__((noinline)) int leaf(int a) { __asm__ volatile(""); return a; }\n'
        "int main(int argc, char **argv) { return leaf(argc) - 1; }\n"
    )
    flags = ["-O2", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fomit-frame-pointer"]
    subprocess.run([require_tool("gcc", "gcc"), *flags, str(source), "-o", str(program)], check=True)
    run = ptap.trace('process.function("leaf")', [program], backend=backend)
    assert [trace["stop"] for trace in run.traces] == ["no_row"], run.stderr
    text = ptap.run("--backtrace", "--backend", backend, 'process.function("leaf")', "--", str(program))
    assert "cut short" in text.stdout and "-fno-asynchronous-unwind-tables" in text.stdout
    assert "compile it with -g" in text.stderr, "one line says what would give lines"


def test_missing_lines_are_told_for_touched_modules_only(ptap, orders, require_tool, tmp_path, backend):
    bare = tmp_path / "stripped"
    subprocess.run([require_tool("objcopy", "binutils"), "--strip-debug", str(orders), str(bare)], check=True)
    run = ptap.trace('process.function("apply_discount")', [bare], backend=backend)
    with bare.open("rb") as file:
        build_id = ELFFile(file).get_section_by_name(".note.gnu.build-id").data()[16:].hex()
    lines = [line for line in run.stderr.splitlines() if "no line information" in line]
    told = [line for line in lines if str(bare) in line]
    assert len(told) == 1 and build_id in told[0] and "-g" in told[0]
    within = [sum(frame["module"] == str(bare) for frame in trace["frames"]) for trace in run.traces]
    assert f"({sum(within)} frames in {sum(map(bool, within))} stacks, " in told[0] and all(within) and len(within) > 1
    assert not any("ld-linux" in line for line in lines)
    assert run.functions()[0] == "apply_discount"
