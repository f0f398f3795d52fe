"""What the tests have a guest do, run in it by its own Python: the loader and collector that the target gets.

Writes captures, and what was seen as results.json, to the folder that is named. Standard library only.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

SESSIONS = Path("/guest/sessions")
sys.path.insert(0, str(SESSIONS / "stacks" / "run.pyz"))

from ptap_target.collector import CAPTURE_MAGIC, run_session  # noqa: E402
from ptap_target.kernel_module import KernelModule  # noqa: E402
from ptap_target.session_folder import SessionError, SessionFolder  # noqa: E402

WORKLOAD = "/guest/workload"
CYCLES = 12
READS, PREADS = 300, 200
"""Of the workload under a predicate: the two ways to what is probed."""


def refused(session, messages):
    """Why the module refuses one of the messages; None when it takes them all."""
    with KernelModule(session.module) as module:
        try:
            for message in messages:
                module.send(message)
        except SessionError as error:
            return str(error)
    return None


def damaged(message, at, content):
    """The message with other bytes from byte `at` on."""
    return replace(message, content=message.content[:at] + content + message.content[at + len(content) :])


def refusals(session):
    """Messages that are wrong each in one way, with the module's reason."""
    named = {message.what: message for message in session.messages}
    anchors = [message for message in session.messages if message.what.startswith("the symbol")]
    table = named["the kernel's unwind table"]
    before = session.messages[: session.messages.index(table) + 1]
    probe = next(message for message in session.messages if message.what.startswith("kernel."))
    start, address = session.messages[-1], 8
    moved = damaged(probe, address, (int.from_bytes(probe.content[8:16], "little") + 16).to_bytes(8, "little"))
    when = SessionFolder.open(SESSIONS / "when caller")
    told = when.messages[: [message.what.startswith("--when") for message in when.messages].index(True) + 1]
    return {
        "a damaged predicate": refused(when, [*told[:-1], damaged(told[-1], 8 + 20, b"\xff")]),
        "a cut predicate": refused(when, [*told[:-1], replace(told[-1], content=told[-1].content[:-16])]),
        "a second predicate": refused(when, [*told, told[-1]]),
        "another kernel": refused(session, [anchors[0], damaged(anchors[1], address, b"\0\x10")]),
        "an unknown anchor": refused(session, [damaged(anchors[0], 16, b"x")]),
        "a damaged table": refused(session, [*anchors, damaged(table, 24 + 60, b"\xff" * 40)]),
        "a cut table": refused(session, [*anchors, replace(table, content=table.content[:-64])]),
        "a table first": refused(session, [table]),
        "another place": refused(session, [*before, moved, start]),
        "no such symbol": refused(session, [*before, damaged(probe, 32, b"no_such_"), start]),
        "twice": refused(session, [*before, start, start]),
        "no message": refused(session, [replace(start, content=b"\0" * 8)]),
        "too much memory": refused(session, [*before, damaged(start, 8, b"\1")]),
    }


def stopped_reader(folder, output, reads):
    """A capture of which nothing was read before all had been hit."""
    session = SessionFolder.open(folder)
    with KernelModule(session.module) as module, open(output, "wb") as file:
        file.write(CAPTURE_MAGIC + json.dumps(session.description).encode() + b"\n")
        for message in session.messages:
            module.send(message)
        subprocess.run([WORKLOAD, "0", str(reads)], check=True)
        module.send(session.stop)
        for descriptor in module.record_files():
            with open(descriptor, "rb", buffering=0) as records:
                while content := records.read(1 << 20):
                    file.write(content)


def cycles(session):
    """Load, probe and unload while the probes are hit; how often."""
    child = subprocess.Popen([WORKLOAD, "0", str(1 << 30)])
    try:
        for _ in range(CYCLES):
            with KernelModule(session.module) as module:
                for message in session.messages:
                    module.send(message)
                module.send(session.stop)
    finally:
        child.kill()
        child.wait()
    return CYCLES


def main():
    results = Path(sys.argv[1])
    session = SessionFolder.open(SESSIONS / "stacks")
    status, told = run_session(SESSIONS / "stacks", results / "stacks", [WORKLOAD, "4"])
    seen = {"status": status, "told": told, "refused": refusals(session)}
    stopped_reader(SESSIONS / "small", results / "unread", 4000)
    read_status, _ = run_session(SESSIONS / "reads", results / "reads", [WORKLOAD, "0", "4000"])
    seen["read status"] = read_status
    seen["when"] = {}
    for folder in sorted(SESSIONS.glob("when *")):
        command = [WORKLOAD, "0", str(READS), str(PREADS)]
        _, seen["when"][folder.name] = run_session(folder, results / folder.name, command)
    seen["cycles"] = cycles(SessionFolder.open(SESSIONS / "reads"))
    seen["left"] = Path("/proc/ptap_kernel").exists() or "ptap_kernel" in Path("/proc/modules").read_text()
    (results / "results.json").write_text(json.dumps(seen))


main()
