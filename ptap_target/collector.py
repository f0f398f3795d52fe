"""Collecting: from the module's files into one capture file, until the traced command ends or the user has enough.

A capture is the line CAPTURE_MAGIC, a line of JSON (the session's description), and then the records of all CPUs as
they were read, each of them whole.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path

from ptap_target.kernel_module import KernelModule
from ptap_target.look_pause import LookPause
from ptap_target.module_sections import placements
from ptap_target.session_folder import Message, SessionError, SessionFolder
from ptap_target.space_follower import SpaceFollower
from ptap_target.space_messages import target

CAPTURE_MAGIC = b"ptap kernel capture 1\n"
_READ_BYTES = 1 << 20
_MUCH = 1 << 18
"""Bytes in one look at all CPUs, after which the next one follows at once."""
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.02
"""Between looks at rings of some megabytes, which the hottest probes fill in some ten milliseconds."""


class CaptureOutput:
    """The capture file at `path`. From the first write that fails on nothing is written; the run goes on without."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = path
        # Not buffered: what was written is there when this process is killed.
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115
        self._failure: OSError | None = None
        self._lost = 0

    def write(self, content: bytes | memoryview) -> None:
        """Write all of `content`, as far as there is room."""
        left = memoryview(content)
        try:
            while left and self._failure is None:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._failure = error
        self._lost += len(left)

    @property
    def problems(self) -> list[str]:
        """Why there is no more in the file."""
        if self._failure is None:
            return []
        why = self._failure.strerror
        return [f"{self._path}: {why}: what was recorded until then is in it, and {self._lost} bytes more were lost"]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Collector:
    """One run of a session; with `only` the command's processes are recorded and no others."""

    def __init__(
        self, session: SessionFolder, module: KernelModule, output: CaptureOutput, *, only: bool = False
    ) -> None:
        self._only = only
        self._module = module
        self._session = session
        self._output = output
        self._files = module.record_files()
        self._enough = False
        # One for all reads: a new one each time is memory that the kernel has to make first.
        self._room = bytearray(_READ_BYTES)
        self._view = memoryview(self._room)
        self.problems: list[str] = []
        """What the module refused while it ran, for people."""
        self._follower = SpaceFollower(lambda build_id, _: session.table_of(build_id), output.write)
        output.write(CAPTURE_MAGIC)
        output.write(json.dumps(session.description).encode() + b"\n")

    def run(self, command: list[str], duration: float | None) -> int:
        """Start the probes, run `command` (or wait), stop them and read what is left; the command's status."""
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            *configuration, start = self._session.messages
            if self._only:
                configuration.append(Message("that no process is to be traced yet", target(0)))
            for message in [*configuration, *placements(self._session), start]:
                self._module.send(message)
            status = self._until_done(command, duration)
            self.problems = sorted(self._follower.problems)
            self._module.send(self._session.stop)
            while self._read_all():
                pass
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._follower.close()
            for file in self._files:
                os.close(file)
        return status

    def _stop(self, *_: object) -> None:
        self._enough = True

    def _until_done(self, command: list[str], duration: float | None) -> int:
        end = time.monotonic() + duration if duration is not None else None
        child = self._started(command) if command else None
        told = child is None
        ended = _end_of(child) if child is not None else -1
        pause = LookPause(_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S)
        try:
            while not self._enough and (end is None or time.monotonic() < end):
                if child is not None and child.poll() is not None:
                    break
                # Between exec and the first instruction a process has no mappings yet.
                told = told or (child is not None and self._follower.tell(child.pid))
                size = self._read_all()
                if size < _MUCH:
                    wanted = pause.after(crowded=size > _MUCH // 4)
                    _wait(ended, wanted if end is None else min(wanted, max(end - time.monotonic(), 0)))
        finally:
            if ended >= 0:
                os.close(ended)
        if child is None:
            return 0
        if child.poll() is None:
            child.terminate()
        return child.wait()

    def _started(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Raises OSError, and SessionError where the module does not take the process."""
        if not self._only:
            return subprocess.Popen(command)
        try:
            # The process itself tells the module of it, before it is the program.
            return subprocess.Popen(command, preexec_fn=self._be_target)
        except subprocess.SubprocessError as error:
            raise SessionError(f"{command[0]}: the module does not take its process as the target: {error}") from None

    def _be_target(self) -> None:
        self._module.send(Message("the command's process", target(os.getpid())))

    def _read_all(self) -> int:
        """Read each CPU's file once; the bytes that there were."""
        size = 0
        for file in self._files:
            got = os.readv(file, [self._room])
            content = self._view[:got]
            self._output.write(content)
            self._follower.watch(content)
            size += got
        return size


def _end_of(child: subprocess.Popen[bytes]) -> int:
    """A descriptor that is readable once the process has ended; -1 where there are none (before Linux 5.3)."""
    with suppress(OSError, AttributeError):
        return os.pidfd_open(child.pid)
    return -1


def _wait(descriptor: int, seconds: float) -> None:
    """Wait that long, or until the descriptor is readable."""
    if descriptor < 0:
        time.sleep(seconds)
    else:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(seconds * 1000)


def run_session(
    folder: Path, output: Path, command: list[str], duration: float | None = None, *, only: bool = False
) -> tuple[int, list[str]]:
    """Run the session of `folder` into the capture file `output`: the command's status, the module's last words.

    The status is 2 where the command has none of its own and the file could not be written to its end.
    `only`: record hits of the command's processes and of no others. Raises SessionError, and unloads the module
    in any case.
    """
    session = SessionFolder.open(folder)
    if only and not command:
        raise SessionError("--only records the processes of a command: give it behind `--`")
    session.check_kernel()
    session.check_programs()
    with KernelModule(session.module) as module, closing(CaptureOutput(output)) as file:
        collector = Collector(session, module, file, only=only)
        status = collector.run(command, duration)
        return status or (2 if file.problems else 0), module.status() + collector.problems + file.problems
