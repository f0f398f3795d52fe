"""Every command has examples in its help, and each of them is a command line that ptap understands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from command_line.conftest import all_commands

from ptap.cli import main

_COMMANDS = {" ".join(["ptap", *words]): command for words, command in all_commands()}
_SEPARATORS = {"|", ";", ">", "<", "&&", "2>&1", ">&"}


def examples_of(command: click.Command) -> list[str]:
    """The lines of the Examples section of a command's help, continued ones in one piece."""
    found = re.search(r"^\s*Examples?:\n((?:.+\n?)+)", command.help or "", re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", found[1]).splitlines() if found else []
    return [line.strip() for line in lines if line.strip()]


def command_lines(example: str) -> list[list[str]]:
    """The words behind `ptap` of each ptap that a line of shell starts."""
    example = re.sub(r'eval "\$\((.*)\)"', r"\1", example)
    lexer = shlex.shlex(example, posix=True, punctuation_chars="|;<>&")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    redirected = False
    for word in lexer:
        if word in _SEPARATORS or set(word) <= set("|;<>&"):
            redirected = word[0] in "<>"
            if not redirected:
                found.append([])
        elif not redirected:
            found[-1].append(word)
    return [words[words.index("ptap") + 1 :] for words in found if "ptap" in words]


_EXAMPLES = [(name, example) for name, command in _COMMANDS.items() for example in examples_of(command)]


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_has_examples_of_itself(name: str) -> None:
    lines = [words for example in examples_of(_COMMANDS[name]) for words in command_lines(example)]
    own = name.split()[1:]
    assert any(main.arguments_with_command(words)[0][: len(own)] == own for words in lines), lines


@pytest.mark.parametrize(("name", "example"), _EXAMPLES)
def test_examples_are_understood(name: str, example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(click.Path, "convert", lambda _, value, *__: value)  # their files are not there
    lines = command_lines(example)
    assert lines or "perf " in example or "objtool " in example or "python3 " in example, example
    for words in lines:
        _parse(*main.arguments_with_command(words))


def _parse(arguments: list[str], target: tuple[str, ...] | None) -> None:
    """Raises click.UsageError, as the command would."""
    command: click.Command | None = main.command()
    context = None
    while isinstance(command, click.Group):
        context = click.Context(command, context, obj=target, **command.context_settings)
        name, *arguments = arguments
        command = command.get_command(context, name)
    assert command is not None
    command.make_context(name, arguments, parent=context)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ptap", *words], capture_output=True, text=True, timeout=60)


def test_help_shows_every_command_once() -> None:
    shown = re.findall(r"^  ([a-z]+) {2,}", run("--help").stdout, re.MULTILINE)
    assert sorted(shown) == sorted(" ".join(name.split()[1:]) for name in _COMMANDS if len(name.split()) == 2)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("lst",), "Did you mean list"),
        (("tables", "shw"), "Did you mean 'show'?"),
        (("report", "--formt", "x"), "--format"),
        (("repoort", "trace.ptap"), "Did you mean report"),
    ],
)
def test_mistyped_words_are_told_with_what_was_meant(words: tuple[str, ...], expected: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert expected in done.stderr
    assert not done.stdout


def test_help_of_a_command_is_found_by_either_word() -> None:
    assert run("help", "split").stdout == run("split", "--help").stdout == run("split", "-h").stdout
    assert run("help").stdout == run("--help").stdout == run().stdout


def test_version() -> None:
    from importlib.metadata import version

    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"ptap {version('ptap')}\n")


def test_examples_that_need_nothing_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for example in ("ptap cache list", "ptap cache clear", 'eval "$(ptap completion bash)"'):
        assert example in {" ".join(re.sub("#.*", "", line).split()) for _, line in _EXAMPLES}
        (words,) = command_lines(example)
        assert run(*words).returncode == 0, example
