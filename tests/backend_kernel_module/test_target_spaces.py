"""What the module is told of the target's processes, and tables that are compiled while they run."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from cfi_tables.cache import table_for
from cfi_tables.elf_image import ElfImage
from ptap.backend.kernel_module.followed_threads import FollowedThreads
from ptap.backend.kernel_module.live_tables import LiveTables
from ptap.backend.kernel_module.target_spaces import TargetSpaces
from ptap_target.session_folder import Message, SessionFolder
from relay_reader.capture import ProcessExeced

_SECONDS = 500
"""Of one processor that is shared with many, which has loops to compile first."""


@pytest.fixture
def session(tmp_path: Path) -> SessionFolder:
    """One that has no tables."""
    return SessionFolder(tmp_path / "ptap_kernel.ko", {}, [], Message("the end", b""))


@pytest.fixture
def library(tmp_path: Path) -> ElfImage:
    source = tmp_path / "late.c"
    source.write_text("int late(int (*called)(int)) { return called(1) + 1; }\n")
    target = tmp_path / "liblate.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-Wl,--build-id", "-o", str(target), str(source)], check=True)
    return ElfImage.open(str(target))


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the module's."""
    monkeypatch.setattr("ptap_target.space_follower.FILES", tmp_path)
    path = tmp_path / "control"
    path.touch()
    return path


class Told:
    """What comes from another thread."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []
        self._changed = threading.Condition()

    def __call__(self, *what: object) -> None:
        with self._changed:
            self.seen.append(what)
            self._changed.notify_all()

    def wait_for(self, wanted) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: any(wanted(*each) for each in self.seen), _SECONDS)


def test_a_table_that_the_session_has_not_is_compiled_once(session, library):
    taken = Told()
    tables = LiveTables(session, taken)
    build_id = library.build_id.hex()
    assert tables.table_of(build_id, str(library.path)) is None
    assert tables.table_of(build_id, str(library.path)) is None
    assert taken.wait_for(lambda name, content: name == build_id)
    tables.close()
    assert taken.seen == [(build_id, table_for(library).data.tobytes())]


def test_another_file_than_was_mapped_gives_no_table(session, library):
    taken = Told()
    tables = LiveTables(session, taken)
    assert tables.table_of("00" * 20, str(library.path)) is None
    assert tables.table_of(library.build_id.hex(), str(library.path) + ".gone") is None
    # What comes after them has come through the thread.
    assert tables.table_of(library.build_id.hex(), str(library.path)) is None
    assert taken.wait_for(lambda name, content: name == library.build_id.hex())
    tables.close()
    assert len(taken.seen) == 1


def test_only_the_targets_processes_are_told_of(session, control):
    followed = FollowedThreads()
    session.description["files"] = {}
    spaces = TargetSpaces(followed, session, lambda _: None)
    assert not spaces.tell(os.getpid()) and not control.stat().st_size
    spaces.close()


def test_a_process_is_told_of_again_when_its_tables_have_come(session, control):
    """A program with a loader and a library, of which the session knows nothing."""
    followed, told = FollowedThreads(), Told()
    spaces = TargetSpaces(followed, session, told)
    sleeping = subprocess.Popen(["sleep", "1000"])
    try:
        followed.apply(ProcessExeced(1, sleeping.pid, "sleep"))
        names = Path(f"/proc/{sleeping.pid}/maps")
        while "libc" not in names.read_text():
            pass
        assert spaces.tell(sleeping.pid)
        lines = [line.split() for line in names.read_text().splitlines()]
        files = {line[5] for line in lines if "x" in line[1] and line[-1].startswith("/")}
        assert len(files) == 3
        assert told.seen[0][0].startswith(f"process {sleeping.pid}: 0 of ")
        assert told.wait_for(lambda text: f": {len(files)} of " in text), told.seen
    finally:
        sleeping.kill()
        sleeping.wait()
        spaces.close()
    size = control.stat().st_size
    spaces._table_has_come("00", b"late")
    assert control.stat().st_size == size, "nothing is told after the end"
