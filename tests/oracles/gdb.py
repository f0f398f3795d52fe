"""gdb as an oracle: what another, older unwinder sees at chosen addresses of a real program.

`GdbOracle.run` starts a program under gdb once, stops it at addresses given as (ELF file, file virtual
address), and gives the hits in order, each with its frames, source lines, inlined calls, arguments and
recovered registers. The part that runs inside gdb is `gdb_script.py`, which also tells where gdb's answers
are known to be wrong. Nothing here uses the code under test.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

_ATTEMPTS_WITH_FORKS = 5

SCRIPT = Path(__file__).resolve().with_name("gdb_script.py")


class OracleError(Exception):
    """gdb could not be run, or did not give an answer; the text has what it printed."""


class Stop(NamedTuple):
    """Where to stop: an ELF file (or `[vdso]`) and a virtual address as in its symbol table."""

    path: str | os.PathLike[str]
    address: int


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument as gdb prints it."""

    name: str
    type: str
    value: str | None
    """gdb's text, e.g. `0x555555556004 "Ada"`, `{x = 1, y = 2}`, `<optimized out>`; None when gdb raised
    `error`.
    """
    unavailable: bool
    """gdb has no value, or none of all of it: optimized out, or unreadable memory."""
    error: str | None


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, real or inlined."""

    pc: int
    function: str | None
    """gdb's name: C++ with its scope and template arguments, without parameters where there is debug
    information.
    """
    file: str | None
    """Absolute, as gdb joins the unit's directory and name."""
    filename: str | None
    """As the debug information names it."""
    line: int | None
    kind: str
    """normal, inline, signal, …"""
    inlined: bool
    arguments: tuple[Argument, ...]
    registers: dict[str, int | None] | None
    """rbx rbp r12 r13 r14 r15 rsp in this frame; None for an inlined frame, whose registers are its owner's.
    """

    def argument(self, name: str) -> Argument:
        """The argument called `name`; raises KeyError."""
        for argument in self.arguments:
            if argument.name == name:
                return argument
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Hit:
    """One stop of one thread."""

    stop: int
    """Index in the list of stops."""
    pid: int
    tid: int
    frames: tuple[Frame, ...]
    """Innermost first; gdb's invented tail call frames are left out."""
    stop_reason: str
    """Why gdb saw no more frames: `outermost`, `no reason`, an error's text, or `limit` for `max_frames`."""

    @property
    def functions(self) -> list[str | None]:
        """Function names, innermost first."""
        return [frame.function for frame in self.frames]


@dataclass(frozen=True, slots=True)
class GdbOracle:
    """Runs gdb. `seconds` bounds a whole run, the program's own time included."""

    command: str = "gdb"
    seconds: float = 30.0
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(
        self,
        program: str | os.PathLike[str],
        stops: Sequence[Stop | tuple[str | os.PathLike[str], int]],
        *,
        arguments: Sequence[str] = (),
        max_hits: int = 20,
        hits_per_stop: int | None = None,
        max_frames: int | None = 256,
        values: bool = True,
        registers: bool = True,
        pretty_printers: bool = False,
        follow: Literal["both", "parent", "child"] = "parent",
        check: bool = True,
    ) -> list[Hit]:
        """The first `max_hits` hits of `program` at `stops`, in order.

        `hits_per_stop` takes only so many at one address; `max_frames=None` sets no limit. `follow` tells
        what happens at a fork. Raises OracleError when gdb fails or runs out of time; with `check=False` the
        hits that it had by then are given instead.
        """
        request = {
            "stops": [(_as_mapped(path), address) for path, address in stops],
            "arguments": shlex.join(arguments),
            "max_hits": max_hits,
            "hits_per_stop": hits_per_stop,
            "max_frames": max_frames,
            "values": values,
            "registers": registers,
            "pretty_printers": pretty_printers,
            "follow": follow,
        }
        # gdb 13 loses an event now and then when it follows both sides of a fork, and waits for ever: ask again.
        attempts = _ATTEMPTS_WITH_FORKS if follow == "both" else 1
        for attempt in range(attempts):
            with tempfile.TemporaryDirectory(prefix="gdb-oracle-") as folder:
                answer = self._ask(Path(folder), Path(program).resolve(), request, self.seconds / attempts)
            if not answer["timed_out"] or attempt == attempts - 1:
                break
        if check and (answer["error"] or answer["timed_out"]):
            raise OracleError(answer["error"] or f"gdb took more than {self.seconds} s")
        return [_hit(told) for told in answer["hits"]]

    def _ask(self, folder: Path, program: Path, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        answer_path = folder / "answer.json"
        request_path = folder / "request.json"
        request_path.write_text(json.dumps({**request, "answer": str(answer_path), "seconds": seconds * 0.9}))
        command = [self.command, "-nx", "-q", "-batch", "-iex", "set debuginfod enabled off"]
        command += ["-iex", "set auto-load python-scripts " + ("on" if request["pretty_printers"] else "off")]
        command += ["-x", str(SCRIPT), str(program)]
        environment = {**os.environ, **self.environment, "PTAP_GDB_REQUEST": str(request_path)}
        environment |= {"DEBUGINFOD_URLS": "", "SHELL": "/bin/sh", "LC_ALL": "C.UTF-8"}
        output = folder / "output"
        with output.open("wb") as sink:
            try:
                # A session of its own, so that whatever gdb started can be ended with it.
                gdb = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    env=environment,
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise OracleError("gdb is not installed; on Debian: apt install gdb") from error
            try:
                gdb.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                pass
            finally:
                _end_session(gdb)
        if not answer_path.exists():
            raise OracleError(
                f"gdb gave no answer within {seconds} s. It printed:\n" + output.read_text(errors="replace")[-4000:]
            )
        answer: dict[str, Any] = json.loads(answer_path.read_text())
        return answer


def _as_mapped(path: str | os.PathLike[str]) -> str:
    """A path as /proc/PID/maps names it."""
    text = os.fspath(path)
    return text if text.startswith("[") else str(Path(text).resolve())


def _end_session(gdb: subprocess.Popen[bytes]) -> None:
    """End gdb and every process of its session: a program under gdb has a process group of its own in it."""
    for pid in _session_members(gdb.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    gdb.wait()


def _session_members(session: int) -> list[int]:
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if os.getsid(int(entry.name)) == session:
                    members.append(int(entry.name))
            except (ProcessLookupError, PermissionError):
                continue
    return members


def _hit(told: dict[str, Any]) -> Hit:
    frames = tuple(
        Frame(**{**frame, "arguments": tuple(Argument(**one) for one in frame["arguments"])})
        for frame in told["frames"]
    )
    return Hit(told["stop"], told["pid"], told["tid"], frames, told["stop_reason"])
