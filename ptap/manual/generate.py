"""Writes the manual pages in `man/`: `python -m ptap.manual.generate [--check]`.

A tool of development: wheels hold the pages, which pip installs into share/man.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ptap.manual.pages import pages

FOLDER = Path(__file__).resolve().parents[2] / "man"


def stale(folder: Path) -> list[Path]:
    """The pages in `folder` that are not what the commands say now, or that no command has any more."""
    texts = {folder / name: text for name, text in pages().items()}
    there = {path: path.read_text() for path in folder.glob("*.1")}
    return sorted(path for path in texts.keys() | there.keys() if texts.get(path) != there.get(path))


def write(folder: Path) -> None:
    """Write every page, and remove those of commands that are no more. Raises OSError."""
    folder.mkdir(exist_ok=True)
    texts = pages()
    for path in stale(folder):
        if path.name in texts:
            path.write_text(texts[path.name])
        else:
            path.unlink()


def main() -> int:
    """The status: 1 where `--check` finds a page that is not fresh."""
    if sys.argv[1:] == ["--check"]:
        found = stale(FOLDER)
        for path in found:
            print(f"{path.name} is not what the commands say: run `make generate`", file=sys.stderr)
        return 1 if found else 0
    write(FOLDER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
