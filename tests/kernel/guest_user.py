"""What the tests of user stacks have a guest do: each session runs the same program. Standard library only.

Writes a capture and the program's own notes for each, and the ends of the runs as user.json, to the folder named.
"""

import json
import os
import sys
from pathlib import Path

SESSIONS = Path("/guest/user_sessions")
sys.path.insert(0, str(SESSIONS / "words" / "run.pyz"))

from ptap_target.collector import run_session  # noqa: E402

ROUNDS = {"words": 6, "returns": 3}


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
        command = [str(workload), str(notes), str(ROUNDS.get(name, 2)), *(["exec"] if name == "words" else [])]
        ends[name] = run_session(session, results / f"user-{name}", command)
    (results / "user.json").write_text(json.dumps(ends))


main()
