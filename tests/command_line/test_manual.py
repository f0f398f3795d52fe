"""The manual pages: fresh, without a complaint of groff, and found by man beside the command that pip installs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import click
from command_line.conftest import all_commands

from ptap.manual import generate, roff

RequireTool = Callable[[str, str], str]
_PAGES = sorted(generate.FOLDER.glob("*.1"))
_COMMANDS = list(all_commands())


def test_pages_are_fresh() -> None:
    assert generate.stale(generate.FOLDER) == []


def test_stale_pages_are_told_and_mended(tmp_path: Path) -> None:
    generate.write(tmp_path)
    assert generate.stale(tmp_path) == []
    (tmp_path / "ptap-gone.1").write_text("a command that is no more")
    (tmp_path / "ptap.1").write_text("what it was")
    assert [each.name for each in generate.stale(tmp_path)] == ["ptap-gone.1", "ptap.1"]
    generate.write(tmp_path)
    assert generate.stale(tmp_path) == []


def shown(path: Path) -> str:
    """A page as man shows it, in lines that are never broken."""
    environment = {**os.environ, "MANWIDTH": "10000", "LC_ALL": "C.UTF-8", "MANPAGER": "cat", "MAN_KEEP_FORMATTING": ""}
    done = subprocess.run(["man", "--warnings=w", "-l", path], env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def test_groff_and_man_have_no_complaints(require_tool: RequireTool) -> None:
    groff = require_tool("groff", "groff-base")
    done = subprocess.run([groff, "-ww", "-Tutf8", "-man", *_PAGES], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


def test_every_option_and_example_is_in_the_page_as_it_is_written(require_tool: RequireTool) -> None:
    require_tool("man", "man-db")
    pages = {path.name: shown(path) for path in _PAGES}
    for words, command in _COMMANDS:
        page = pages["-".join(["ptap", *words[:1]]) + ".1"]
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert all(option in page for option in parameter.opts), (words, parameter.opts)
        for line in (command.help or "").splitlines():
            if re.match(r" +ptap ", line):
                assert line.strip() in page, line


def test_signs_are_shown_as_they_are(tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("man", "man-db")
    text = r""".dot 'quote' `grave` ^hat ~tilde \back\slash -minus "double" … ünï"""
    page = tmp_path / "signs.1"
    page.write_text(
        '.TH SIGNS 1 "" x "x"\n.SH NAME\nsigns \\- x\n.SH SIGNS\n' + "\n".join(roff.literal([text, "'a"])) + "\n"
    )
    assert text in shown(page)
    assert re.search(r"(?m)^ +'a$", shown(page))


def test_man_finds_the_pages_where_pip_installs_them(tmp_path: Path, require_tool: RequireTool) -> None:
    man = require_tool("man", "man-db")
    root = generate.FOLDER.parent
    data = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    # As setuptools and installers lay them out: relative to the environment's root, where man looks by PATH.
    for folder, patterns in data.items():
        (tmp_path / folder).mkdir(parents=True)
        for path in (path for pattern in patterns for path in root.glob(pattern)):
            shutil.copy(path, tmp_path / folder)
    (tmp_path / "bin").mkdir()
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    environment.pop("MANPATH", None)
    for page in _PAGES:
        found = subprocess.run([man, "-w", page.stem], env=environment, capture_output=True, text=True, timeout=60)
        assert found.stdout.strip() == f"{tmp_path}/share/man/man1/{page.name}", found
