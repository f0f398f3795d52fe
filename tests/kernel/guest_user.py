"""What the tests of user stacks have a guest do: each session runs the same program. Standard library only.

Writes a capture and the program's own notes for each, and the ends of the runs as user.json, to the folder named.
"""

import errno
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

SESSIONS = Path("/guest/user_sessions")
sys.path.insert(0, str(SESSIONS / "words" / "run.pyz"))

from ptap_target import collector  # noqa: E402
from ptap_target.kernel_module import FILES, KernelModule  # noqa: E402
from ptap_target.session_folder import SessionFolder  # noqa: E402
from ptap_target.space_follower import SpaceFollower  # noqa: E402
from ptap_target.space_messages import space, user_table  # noqa: E402

ROUNDS = 2
LINES = 5  # that the program writes a round
TOLD = Path("/tmp/told")


def noting_what_is_told(follower_class, notes):
    """Let the program go on when it waits, and the module knows it as it is then: its first round comes before that."""
    watch = follower_class.watch

    def watch_and_note(follower, records):
        watch(follower, records)
        lines = notes.read_text().splitlines() if notes.exists() else []
        if len(lines) % (LINES * (ROUNDS + 1)) == LINES and not TOLD.exists():
            if follower.tell(int(lines[0].split()[1])):
                TOLD.touch()

    return type("NotingFollower", (follower_class,), {"watch": watch_and_note})


def narrow(session, results):
    """A program of 32-bit code, which goes on until the module knows it."""
    told = Path("/tmp/narrow.told")

    class TellingFollower(SpaceFollower):
        def _was_told(self, pid, mappings):
            if any(mapping.path.endswith("/narrow_workload") for mapping in mappings):
                told.touch()

    collector.SpaceFollower = TellingFollower
    return collector.run_session(session, results / "user-narrow", ["/guest/narrow_workload", str(told)])


def refusals(session):
    """Whether the module takes what it is told of a process, as it is or wrong in one way: the error's name."""
    child = subprocess.Popen(["/bin/busybox", "sleep", "100"])
    time.sleep(0.5)
    with KernelModule(session.module):
        follower = SpaceFollower(lambda *_: None, lambda _: None)
        stack, mappings = follower._mappings_of(child.pid)
        first, *rest = mappings

        def told(mappings, pid=child.pid, stack=stack, cut=0):
            message = space(pid, 1, stack, mappings)
            return send(message[: len(message) - cut])

        def send(message):
            with open(FILES / "control", "wb", buffering=0) as file:
                try:
                    file.write(message)
                except OSError as error:
                    return errno.errorcode[error.errno]
            return None

        table = bytearray(next((session.module.parent / "tables").iterdir()).read_bytes())
        table[60:100] = b"\xff" * 40
        seen = {
            "as it is": told(mappings),
            "a moved mapping": told([replace(first, start=first.start + 4096), *rest]),
            "another file": told([replace(first, inode=first.inode + 1), *rest]),
            "another part of the file": told([replace(first, file_offset=first.file_offset + 4096), *rest]),
            "one left out": told(rest),
            "another program": told(mappings, stack=stack + 16),
            "not sorted": told(mappings[::-1]),
            "no such table": told([replace(first, table=77), *rest]),
            "a damaged table": send(user_table(1, bytes(table))),
            "no such process": told(mappings, pid=1 << 22),
            "a cut message": told(mappings, cut=8),
            "forgotten": told([]),
        }
        follower.close()
    child.kill()
    child.wait()
    return seen


def main():
    results = Path(sys.argv[1])
    workload = Path(json.loads((SESSIONS / "words" / "session.json").read_text())["probes"][1]["path"])
    workload.parent.mkdir(parents=True, exist_ok=True)
    workload.write_bytes(Path("/guest/user_workload").read_bytes())
    workload.chmod(0o755)
    ends = {}
    for session in sorted(SESSIONS.iterdir()):
        name = session.name
        notes = results / f"user-{name}.notes"
        command = [str(workload), str(notes), str(TOLD), str(ROUNDS), *(["exec"] if name == "words" else [])]
        TOLD.unlink(missing_ok=True)
        collector.SpaceFollower = noting_what_is_told(SpaceFollower, notes)
        ends[name] = collector.run_session(session, results / f"user-{name}", command)
    ends["narrow"] = narrow(Path("/guest/sessions/narrow"), results)
    ends["refused"] = refusals(SessionFolder.open(SESSIONS / "words"))
    (results / "user.json").write_text(json.dumps(ends))


main()
