"""Running processes and their threads, for completion: by number, or by the name that the user knows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from ptap.shell_completion.candidate import MOST, Candidate


def processes(prefix: str) -> list[Candidate]:
    """Processes whose pid begins with `prefix`, or the one whose name does; not those of the kernel."""
    return _matching(list(_numbered("/proc")), prefix)


def threads(pids: Sequence[int], prefix: str) -> list[Candidate]:
    """The threads of `pids`, by number or name."""
    return _matching([each for pid in pids for each in _numbered(f"/proc/{pid}/task")], prefix)


def process_names(prefix: str) -> list[Candidate]:
    """The names of running processes."""
    return sorted({Candidate(comm) for _, comm in _numbered("/proc") if comm.startswith(prefix)})[:MOST]


def _matching(numbered: Sequence[tuple[int, str]], prefix: str) -> list[Candidate]:
    chosen = sorted((number, comm) for number, comm in numbered if f"{number}".startswith(prefix))
    if not chosen:
        # Of several the numbers have nothing in common, and shells would take away what was written.
        named = [(number, comm) for number, comm in numbered if comm.startswith(prefix)]
        chosen = named if len(named) == 1 else []
    return [Candidate(str(number), meaning=comm) for number, comm in chosen]


def _numbered(folder: str) -> Iterator[tuple[int, str]]:
    """(number, name) of each process or thread that is listed in `folder`."""
    try:
        entries = os.listdir(folder)
    except OSError:
        return
    for entry in entries:
        if entry.isdigit():
            try:
                os.readlink(f"{folder}/{entry}/exe")
            except FileNotFoundError:
                continue  # one of the kernel's, or ended
            except OSError:
                pass  # another user's
            try:
                with open(f"{folder}/{entry}/comm", encoding="utf-8", errors="replace") as file:
                    yield int(entry), file.read().rstrip("\n")
            except OSError:
                continue
