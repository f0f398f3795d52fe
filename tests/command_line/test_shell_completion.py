"""Completion in real shells, and of each kind of value."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line.terminal import PATIENCE_S, shell

from ptap.shell_completion.candidate import MOST, few
from ptap.shell_completion.function_names import function_names
from relay_reader.capture_kind import CAPTURE_FILE_MAGIC, PERF_DATA_MAGIC

RequireTool = Callable[[str, str], str]


def completed(shell: str, words: list[str], cwd: Path | None = None, behind: list[str] | None = None) -> list[str]:
    """What ptap answers a shell whose line has `words`, the last of them incomplete, and `behind` after the cursor."""
    line = ["ptap", *words, *(behind or [])]
    environment = {**os.environ, "_PTAP_COMPLETE": f"{shell}_complete", "COMP_WORDS": "\n".join(line)}
    if shell == "fish":
        environment |= {"COMP_WORDS": " ".join(line), "COMP_CWORD": words[-1]}
    else:
        environment["COMP_CWORD"] = str(len(words))
    python = [sys.executable, "-m", "ptap"]
    done = subprocess.run(python, env=environment, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_commands_and_options() -> None:
    assert completed("bash", ["mer"]) == ["plain,merge"]
    assert completed("bash", ["tables", "v"]) == ["plain,verify"]
    assert completed("bash", ["report", "--form"]) == ["plain,--format"]
    assert "plain,folded" in completed("bash", ["report", "--format", "f"])
    assert completed("bash", ["report", "--format", "=", "spe"]) == ["plain,speedscope"]
    assert completed("fish", ["merg"]) == ["plain,merge\tMerge capture files into one, by time."]


def test_functions_of_a_program(program: Path) -> None:
    expected = [f'plain,process("./sorts").function("{name}")' for name in ("sort_first", "sort_last")]
    assert completed("bash", ["list", '\'process("./sorts").function("sort_'], program.parent) == expected
    # The short form, where `trace` is left out, and a statement.
    short = completed("bash", ["--backtrace", '\'process("./sorts").function("sort_f'], program.parent)
    assert short == expected[:1]
    statement = completed("bash", ["list", '\'process("./sorts").statement("sort_f'], program.parent)
    begin = 'part,process("./sorts").statement("sort_first@'
    assert statement == [begin, f"{begin}FILE:LINE"]


def test_a_probe_is_completed_as_far_as_there_is_one_way(program: Path) -> None:
    found = completed("bash", ["list", "'process(\"./so"], program.parent)
    assert 'plain,process("./sorts").function("unlike_others")' in found
    assert 'plain,process.function("unlike_others")' in completed(
        "bash", ["list", "'process.function(\"unlike_"], program.parent, ["--", "./sorts"]
    )
    assert completed("bash", ["list", "'timer.profile(9"]) == ["plain,timer.profile(99)", "plain,timer.profile(999)"]


def test_quotes_are_those_that_the_user_began_with(program: Path) -> None:
    assert completed("bash", ["list", "process.f"]) == ["part,'process.function(\""]
    double = completed("bash", ["list", '"process(\\"./sorts\\").function(\\"unlike'], program.parent)
    assert double == ['plain,process(\\"./sorts\\").function(\\"unlike_others\\")']
    assert completed("fish", ["list", '\'process("./sorts").function("unlike'], program.parent) == [
        'plain,process("./sorts").function("unlike_others")'
    ]


def test_what_stands_behind_two_dashes_is_for_the_shell() -> None:
    assert completed("bash", ["record", "--", "l"]) == ["command,l"]
    assert completed("bash", ["record", "--", "ls", "--fo"]) == ["file,--fo"]


def test_processes_by_number_and_by_name(program: Path, tmp_path: Path) -> None:
    name = f"its{os.getpid()}name"[:15]  # other runs of this test may go on at the same time
    named = tmp_path / name
    named.write_bytes(Path("/bin/sleep").read_bytes())
    named.chmod(0o755)
    with subprocess.Popen([named, "300"]) as process:
        try:
            _until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == f"{name}\n")
            assert completed("bash", ["stack", name[:-2]]) == [f"plain,{process.pid}"]
            assert f"plain,{process.pid}\t{name}" in completed("fish", ["stack", str(process.pid)])
            assert f"plain,{process.pid}" in completed("bash", ["stack", str(process.pid), "-t", ""])
        finally:
            process.kill()


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_captures_are_told_by_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "a capture").write_bytes(CAPTURE_FILE_MAGIC)
    (tmp_path / "of.perf").write_bytes(PERF_DATA_MAGIC)
    (tmp_path / "notes.txt").write_text("no capture")
    (tmp_path / "program").write_bytes(Path(sys.executable).read_bytes()[:64])
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert completed("bash", ["report", ""], tmp_path) == ["plain,'a capture'", "part,folder/", "plain,of.perf"]
    assert completed("bash", ["merge", "of.perf", "'a"], tmp_path) == ["plain,a capture"]
    assert completed("bash", ["report", "nothing"], tmp_path) == ["file,"]


def test_functions_of_the_kernel() -> None:
    functions = completed("bash", ["trace", "'kernel.function(\"vfs_rea"])
    assert 'plain,kernel.function("vfs_read")' in functions
    assert all(each.startswith('plain,kernel.function("vfs_rea') for each in functions)


def test_names_of_inlined_functions_come_from_the_index(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unwind.symbolize.symbolizer import Symbolizer

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert function_names(str(program), "sort_") == {"sort_first", "sort_last"}
    Symbolizer.open(str(program)).build_index()
    assert function_names(str(program), "sort_") == {"sort_first", "sort_inlined", "sort_last"}


def test_damaged_files_have_no_names(tmp_path: Path, program: Path) -> None:
    whole = program.read_bytes()
    for size in (0, 3, 20, 64, 200, len(whole) // 2):
        cut = tmp_path / "cut"
        cut.write_bytes(whole[:size])
        assert isinstance(function_names(str(cut), ""), set)
    assert function_names(str(tmp_path / "nowhere"), "") == set()


def test_of_very_many_names_the_common_beginning_is_kept() -> None:
    names = [f"name_{number:05d}" for number in range(10 * MOST)]
    shown = few([*names, "zebra"])
    assert len(shown) == MOST
    assert (shown[0], shown[-1]) == (names[0], "zebra")
    assert (few(names)[0], few(names)[-1]) == (names[0], names[-1])


# --- real shells


def test_bash_completes_at_a_terminal(
    program: Path, ptap_in_path: dict[str, str], require_tool: RequireTool
) -> None:  # fmt: skip
    words = [require_tool("bash", "bash"), "--norc", "--noprofile", "-i"]
    with shell(words, {**ptap_in_path, "PS1": "$ "}, program.parent) as terminal:
        terminal.type('eval "$(ptap completion bash)"; complete -p ptap\n', "-F _ptap_completion ptap\r\n")
        terminal.type("ptap mer\t", "ptap merge ")
        terminal.type('\x15ptap list \'process("./sorts").function("unl\t', "unlike_others\")' ")
        terminal.type('\x15ptap list \'process("./sorts").function("so\t', "rt_")
        terminal.type("l\t", "last\")' ")
        terminal.type("\n", "sorts.c:5")  # what was completed is a probe


def test_zsh_completes_at_a_terminal(
    program: Path, ptap_in_path: dict[str, str], tmp_path: Path, require_tool: RequireTool
) -> None:
    words = [require_tool("zsh", "zsh"), "-f", "-i"]
    with shell(words, {**ptap_in_path, "TERM": "xterm"}, program.parent) as terminal:
        load = (
            f'autoload -U compinit; compinit -u -d {tmp_path}/dump; eval "$(ptap completion zsh)"; echo READY$((1+1))'
        )
        terminal.type(f"{load}\n", "READY2")
        terminal.type('ptap list \'process("./sorts").function("unlike\t', "_others\")'")
        terminal.type("\n", "sorts.c:6")


def test_fish_completes(program: Path, ptap_in_path: dict[str, str], require_tool: RequireTool, tmp_path: Path) -> None:
    asked = "complete -C 'ptap mer'; complete -C 'ptap list \\'process(\"./sorts\").function(\"unlike'"
    words = [require_tool("fish", "fish"), "-N", "-c", f"ptap completion fish | source; {asked}"]
    environment = {**ptap_in_path, "HOME": str(tmp_path)}
    done = subprocess.run(words, env=environment, cwd=program.parent, capture_output=True, text=True, timeout=60)
    shown = done.stdout.splitlines()
    assert "merge\tMerge capture files into one, by time." in shown, done
    assert 'process("./sorts").function("unlike_others")' in shown, done


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_sound(shell: str, require_tool: RequireTool, tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "ptap", "completion", shell], capture_output=True, check=True, timeout=60
    )
    (tmp_path / "script").write_bytes(made.stdout)
    checked = subprocess.run(
        [require_tool(shell, shell), "-n", str(tmp_path / "script")], capture_output=True, timeout=60
    )
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_completion_imports_nothing_slow() -> None:
    code = "import sys; from ptap.cli.main import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    environment = {**os.environ, "_PTAP_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    for words in (
        "ptap\nreport\n",
        "ptap\nstack\n1",
        "ptap\nlist\n'process(\"/",
        "ptap\nlist\n'kernel.function(\"vfs_",
    ):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment | {"COMP_WORDS": words},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert not {"numba", "numpy", "construct", "rich"} & set(done.stderr.split()), words
