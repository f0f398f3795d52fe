"""Following the mappings of traced processes, and telling the module of them as they come.

Data comes from /proc/PID/maps and the mapped files; tables come from whoever has them by build-id, as the folder of
the session does. A process is looked at when the module says that it does not know its mappings, or not any more: an
exec, a library that was opened, code that was made at run time. What the module was told goes into the capture, too.
"""

from __future__ import annotations

import base64
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

from ptap_target.elf_identity import ElfIdentity, elf_identity, is_narrow, read_identity
from ptap_target.kernel_module import FILES
from ptap_target.space_messages import SpaceMapping, space, space_record, untold_processes, user_table

_TRIES = 3
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0
_MOST_REMEMBERED = 4096
_SCANNED_RECORDS = 256
"""Of what is read at once: a process that is hit often is seen soon enough."""
_USER_END = 1 << 47
_IDENT_BYTES = 16
"""Of an ELF file's beginning: what tells its kind."""
_START_STACK = 25
"""Field 28 of /proc/PID/stat (proc(5)), counted from behind the name."""

TableSource = Callable[[str, str], bytes | None]
"""Gives the table of a file by its build-id (hexadecimal digits), None where there is none; the file is at the path."""


class SpaceFollower:
    """Tells of processes. `write` takes records for the capture."""

    def __init__(self, table_of: TableSource, write: Callable[[bytes], object]) -> None:
        self._control: int | None = None
        """The module's file, once there is something to tell."""
        self._table_of = table_of
        self._write = write
        self._generation = 0
        self._tables: dict[str, int] = {}
        self._last_table = 0
        self._identities: dict[tuple[int, ...], ElfIdentity | None] = {}
        self._vdsos: dict[bool, ElfIdentity] = {}
        """By whether it is that of 32-bit processes."""
        self._new_images: dict[str, str] = {}
        """Build-id -> image in base64, of those that are not in the capture yet."""
        self._next: dict[int, tuple[float, float]] = {}
        """pid -> (not before, the pause that follows)."""
        self.problems: set[str] = set()
        """What the module refused, for people."""

    def close(self) -> None:
        """Close the module's file."""
        if self._control is not None:
            os.close(self._control)
            self._control = None

    def watch(self, records: bytes | memoryview) -> None:
        """Look at the processes that `records`, which were just read, say are not known."""
        for pid in untold_processes(records, _SCANNED_RECORDS):
            now = time.monotonic()
            not_before, pause = self._next.get(pid, (0.0, _FIRST_PAUSE_S))
            if now >= not_before:
                if len(self._next) >= _MOST_REMEMBERED:
                    self._next.clear()
                self._next[pid] = (now + pause, min(2 * pause, _LONGEST_PAUSE_S))
                self.tell(pid)

    def tell(self, pid: int) -> bool:
        """Tell the module of the mappings of process `pid`; False when it is gone, or changes too fast."""
        for _ in range(_TRIES):
            # From before the look: what a hit after this had mapped is in it, or in the next one.
            time_ns = time.monotonic_ns()
            try:
                start_stack, mappings = self._mappings_of(pid)
                if not mappings:
                    continue
            except (OSError, ValueError, IndexError):
                return False  # it has ended meanwhile
            self._generation += 1
            # Even where the module refuses, its hits were of a process with these mappings.
            self._note(time_ns, pid, start_stack, mappings)
            refused = self._send(space(pid, self._generation, start_stack, mappings))
            if refused is None:
                self._was_told(pid, mappings)
                return True
            if refused not in (errno.ESTALE, errno.ESRCH):
                self.problems.add(f"the mappings of process {pid} were refused: {os.strerror(refused)}")
                return False
        return False

    def _was_told(self, pid: int, mappings: list[SpaceMapping]) -> None:
        """For those who want to know what the module knows of a process from now on."""

    def _send(self, message: bytes) -> int | None:
        """The error number when the module refuses."""
        try:
            if self._control is None:
                self._control = os.open(FILES / "control", os.O_WRONLY | os.O_CLOEXEC)
            os.write(self._control, message)
        except OSError as error:
            return error.errno or errno.EIO
        return None

    def _note(self, time_ns: int, pid: int, start_stack: int, mappings: list[SpaceMapping]) -> None:
        images, self._new_images = self._new_images, {}
        self._write(space_record(time_ns, pid, self._generation, start_stack, mappings, images))

    def _mappings_of(self, pid: int) -> tuple[int, list[SpaceMapping]]:
        """Where the program's stack began, and its mappings; none where it was replaced meanwhile."""
        start_stack = _start_stack(pid)
        mappings = self._mappings(pid)
        return start_stack, mappings if _start_stack(pid) == start_stack else []

    def _mappings(self, pid: int) -> list[SpaceMapping]:
        """The executable mappings, sorted. Raises OSError and ValueError when the process goes meanwhile."""
        found = []
        for line in Path(f"/proc/{pid}/maps").read_text(errors="surrogateescape").splitlines():
            fields = line.split(None, 5)
            start, end = (int(each, 16) for each in fields[0].split("-"))
            if "x" in fields[1] and end <= _USER_END:
                path = fields[5] if len(fields) == 6 else "//anon"
                found.append(self._mapping(pid, start, end, int(fields[2], 16), int(fields[4]), path))
        return found

    def _mapping(self, pid: int, start: int, end: int, offset: int, inode: int, path: str) -> SpaceMapping:
        identity = None
        if path == "[vdso]":
            identity = self._vdso_identity(pid, start, end)
        elif path.startswith("/") and not path.startswith("//"):
            identity = self._file_identity(pid, f"{start:x}-{end:x}", path)
        build_id = identity.build_id if identity is not None else None
        bias = identity.bias(start, offset) if identity is not None else None
        table = 0
        if build_id is not None and bias is not None:
            table = self._table(build_id, f"/proc/{pid}/map_files/{start:x}-{end:x}")
        path = os.fsencode(path).decode("utf-8", "backslashreplace")
        return SpaceMapping(start, end, offset, inode, path, build_id, bias or 0, table)

    def _table(self, build_id: str, path: str) -> int:
        """The id of the table for files of that build-id, which the module is given when it comes first; 0 for none."""
        if build_id not in self._tables:
            content = self._table_of(build_id, path)
            self._tables[build_id] = 0 if content is None else self._give_table(build_id, content)
        return self._tables[build_id]

    def _give_table(self, build_id: str, content: bytes) -> int:
        """The id by which the module has the table from now on; 0 when it refuses."""
        self._last_table += 1
        refused = self._send(user_table(self._last_table, content))
        if refused is None:
            return self._last_table
        self.problems.add(f"the table of build-id {build_id} was refused: {os.strerror(refused)}")
        return 0

    def _take_table(self, build_id: str, content: bytes) -> None:
        """Of a table that was not there before: for the mappings that are told from now on."""
        self._tables[build_id] = self._give_table(build_id, content)

    def _file_identity(self, pid: int, name: str, path: str) -> ElfIdentity | None:
        """That of the very file that is mapped, which may be deleted by now."""
        for place in (f"/proc/{pid}/map_files/{name}", f"/proc/{pid}/root{path}"):
            try:
                status = os.stat(place)
                key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                if key not in self._identities:
                    self._identities[key] = read_identity(place)
                return self._identities[key]
            except OSError:
                continue
        return None

    def _vdso_identity(self, pid: int, start: int, end: int) -> ElfIdentity | None:
        """One kernel gives every 64-bit process the same, and every 32-bit one another."""
        try:
            with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
                memory.seek(start)
                content = memory.read(_IDENT_BYTES)
                narrow = is_narrow(content)
                if narrow not in self._vdsos:
                    content += memory.read(end - start - len(content))
        except (OSError, ValueError):
            return None
        if narrow not in self._vdsos:
            identity = elf_identity(content)
            if identity is None or identity.build_id is None:
                return None
            self._vdsos[narrow] = identity
            self._new_images[identity.build_id] = base64.b64encode(content).decode()
        return self._vdsos[narrow]


def _start_stack(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return int(fields[_START_STACK])
