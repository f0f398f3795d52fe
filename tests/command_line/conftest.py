"""What the tests of the command line share: ptap as a user has it in PATH, and a small program to complete names of."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from ptap.cli import main

SOURCE = """
volatile int kept;
static int __attribute__((always_inline)) inline sort_inlined(int each) { kept = each; return kept * 3; }
int sort_first(int each) { return each + 1; }
int sort_last(int each) { return sort_inlined(each) + 2; }
int unlike_others(int each) { return each; }
int main(int count, char **words) { (void)words; return sort_first(count) + sort_last(count) + unlike_others(count); }
"""


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]) -> Path:
    """A program with debugging information."""
    folder = tmp_path_factory.mktemp("completed")
    (folder / "sorts.c").write_text(SOURCE)
    compile_it = [require_tool("gcc", "gcc"), "-g", "-O1", "-fno-inline-functions", "sorts.c", "-o", "sorts"]
    subprocess.run(compile_it, cwd=folder, check=True)
    return folder / "sorts"


@pytest.fixture(scope="session")
def ptap_in_path(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose PATH has a ptap first, which is this one."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "ptap"
    root = Path(main.__file__).resolve().parents[2]
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" -m ptap "$@"\n')
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "TERM": "dumb", "INPUTRC": "/dev/null"}


def all_commands() -> Iterator[tuple[list[str], click.Command]]:
    """Every command and subcommand, with the words that name it."""
    top = main.command()
    yield [], top
    with click.Context(top, **top.context_settings) as context:
        yield from _commands_of(top, [], context)


def _commands_of(
    group: click.Group, words: list[str], context: click.Context
) -> Iterator[tuple[list[str], click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield [*words, name], command
        if isinstance(command, click.Group):
            yield from _commands_of(command, [*words, name], context)
