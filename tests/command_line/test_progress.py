"""Progress bars: drawn at a terminal for work that goes on, gone when it has ended, and nowhere else.

Work that takes as long as the test wants stands for work that takes long: it goes on when the test has seen the bar.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from command_line.terminal import PATIENCE_S, errors_at_terminal

from cfi_tables.progress import Task, followed, progress, watch

_ENVIRONMENT = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LC_ALL": "C.UTF-8"}
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ERASED = "\x1b[2K"

# Two pieces of work, which go on when `wait` has.
_WORK = """
import sys, time
from cfi_tables.progress import progress
from ptap.cli.progress_bars import progress_shown
with progress_shown({shown}), progress("between the lines", 8, "steps", interleaved=True) as outer:
    with progress("slow [work]", 100, "steps") as task:
        outer.done, task.done = 3, 40
        {wait}
print("ended")
"""


def _work(shown: str = "", wait: str = "sys.stdin.readline()") -> list[str]:
    return [sys.executable, "-c", _WORK.format(shown=shown, wait=wait)]


class _Notes:
    """A watcher that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, int]] = []

    def begin(self, task: Task) -> None:
        self.told.append(("begin", task.what, task.done))

    def end(self, task: Task) -> None:
        self.told.append(("end", task.what, task.done))


def test_watchers_are_told_of_work_however_it_ends() -> None:
    notes = _Notes()
    with progress("unwatched", 3) as task:
        task.done = 1
    with watch(notes):
        with progress("outer"), pytest.raises(ZeroDivisionError), progress("inner", 10) as task:
            task.done = 4
            raise ZeroDivisionError
        assert list(followed("abc", "letters", measure=lambda: 7)) == ["a", "b", "c"]
        unfinished = followed("abc", "left", measure=lambda: 0)
        next(unfinished)
        del unfinished
    with progress("unwatched again"):
        pass
    assert notes.told == [
        *(("begin", "outer", 0), ("begin", "inner", 0), ("end", "inner", 4), ("end", "outer", 0)),
        *(("begin", "letters", 7), ("end", "letters", 7), ("begin", "left", 0), ("end", "left", 0)),
    ]


def test_a_bar_is_drawn_for_long_work_and_gone_at_its_end() -> None:
    with errors_at_terminal(_work(), _ENVIRONMENT) as (process, terminal):
        terminal.wait_for("slow [work]")
        terminal.wait_for("40 of 100 steps")
        terminal.wait_for("3 of 8 steps")
        output, _ = process.communicate(b"go on\n", timeout=PATIENCE_S)
        shown = terminal.rest()
    assert output == b"ended\n"
    assert _ESCAPES.sub("", shown.rpartition(_ERASED)[2]).strip() == ""
    assert shown.count(_ERASED) >= 2  # both lines
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")  # the cursor is there again


def test_on_a_terminal_that_is_written_to_no_bar_is_drawn_between_the_lines() -> None:
    with errors_at_terminal(_work("sys.stdout"), _ENVIRONMENT, output_too=True) as (process, terminal):
        terminal.wait_for("40 of 100 steps")
        process.communicate(b"go on\n", timeout=PATIENCE_S)
        shown = terminal.rest()
    assert "between the lines" not in shown
    assert _ESCAPES.sub("", shown.rpartition(_ERASED)[2]).strip() == "ended"


@pytest.mark.parametrize(
    ("environment", "shown", "terminal"),
    [
        pytest.param(_ENVIRONMENT, "", False, id="no terminal"),
        pytest.param(_ENVIRONMENT | {"TERM": "dumb"}, "", True, id="dumb terminal"),
        pytest.param(_ENVIRONMENT, "sys.stdout", True, id="a pipe that is written to, perhaps of a pager"),
    ],
)
def test_nothing_is_drawn(environment: dict[str, str], shown: str, terminal: bool) -> None:
    work = _work(shown, wait="time.sleep(1.5)")  # bars are drawn after a second
    if not terminal:
        done = subprocess.run(work, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
        assert (done.stdout, done.stderr) == ("ended\n", "")
        return
    with errors_at_terminal(work, environment) as (process, errors):
        assert process.communicate(timeout=PATIENCE_S)[0] == b"ended\n"
        assert errors.rest() == ""


def test_short_work_does_not_import_what_draws() -> None:
    script = """
import sys
from cfi_tables.progress import progress
from ptap.cli.progress_bars import progress_shown
with progress_shown(), progress("short"):
    pass
print("rich" in sys.modules)
"""
    with errors_at_terminal([sys.executable, "-c", script], _ENVIRONMENT) as (process, terminal):
        assert process.communicate(timeout=PATIENCE_S)[0] == b"False\n"
        assert terminal.rest() == ""


def test_colours_are_left_out_where_nobody_wants_them() -> None:
    with errors_at_terminal(_work(), _ENVIRONMENT | {"NO_COLOR": "1"}) as (process, terminal):
        terminal.wait_for("40 of 100 steps")
        process.communicate(b"go on\n", timeout=PATIENCE_S)
        assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|38;5;[0-9]+)m", terminal.rest())


# --- a real download


class _SlowServer:
    """A debuginfod that sends half of the file, and the rest when it is told to."""

    def __init__(self, content: bytes) -> None:
        self.go_on = threading.Event()
        slow = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                slow.go_on.wait(PATIENCE_S)
                self.wfile.write(content[len(content) // 2 :])

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)

    @contextmanager
    def running(self) -> Iterator[str]:
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{self.server.server_port}"
        finally:
            self.go_on.set()
            self.server.shutdown()
            self.server.server_close()
            thread.join()


def test_a_download_is_shown_by_its_bytes(
    program: Path, tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    debug, stripped = tmp_path / "sorts.debug", tmp_path / "sorts"
    for words in (["--only-keep-debug", program, debug], ["--strip-all", program, stripped]):
        subprocess.run([require_tool("objcopy", "binutils"), *map(str, words)], check=True)
    server = _SlowServer(debug.read_bytes())
    with server.running() as url:
        environment = _ENVIRONMENT | {
            "DEBUGINFOD_URLS": url,
            "DEBUGINFOD_CACHE_PATH": str(tmp_path / "cache"),
            "XDG_CACHE_HOME": str(tmp_path / "tables"),
        }
        words = [sys.executable, "-m", "ptap", "list", f'process("{stripped}").function("sort_first")']
        with errors_at_terminal(words, environment) as (process, terminal):
            terminal.wait_for("debugging information of sorts")
            terminal.wait_for(" MB")
            server.go_on.set()
            output, _ = process.communicate(timeout=PATIENCE_S)
            shown = terminal.rest()
    assert b"sorts.c:4" in output
    assert _ESCAPES.sub("", shown.rpartition(_ERASED)[2]).strip() == ""
