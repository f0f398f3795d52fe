"""What the tests of probe kinds have a guest do: a module is loaded while it is probed, and before.

Writes captures, and what was seen as kinds.json, to the folder that is named. Standard library only.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

SESSIONS = Path("/guest/sessions")
sys.path.insert(0, str(SESSIONS / "kinds" / "run.pyz"))

from ptap_target.collector import run_session  # noqa: E402
from ptap_target.kernel_module import KernelModule  # noqa: E402
from ptap_target.module_sections import placements  # noqa: E402
from ptap_target.session_folder import SessionError, SessionFolder  # noqa: E402

READS = "cat /proc/ptap_probed; cat /proc/ptap_probed"
COUNT = "count=0; while [ $count -lt 100000 ]; do count=$((count + 1)); done"
LATER = f"insmod /guest/probed.ko && {READS} && rmmod probed && insmod /guest/probed.ko && {READS} && rmmod probed"


def addresses():
    """Where the loaded module's sections lie, as the kernel shows it."""
    return {file.name: file.read_text().strip() for file in Path("/sys/module/probed/sections").iterdir()}


def refusal(session, what, at, content):
    """Why the module refuses the message `what` with other bytes from byte `at` on; None when it takes all."""
    with KernelModule(session.module) as module:
        try:
            for message in session.messages:
                if message.what == what:
                    changed = message.content[:at] + content + message.content[at + len(content) :]
                    message = replace(message, content=changed)
                module.send(message)
        except SessionError as error:
            return str(error)
    return None


def other_build(session):
    """What the module says when the module that comes is not that of the session: one whose symbols lie elsewhere."""
    with KernelModule(session.module) as module:
        for message in session.messages:
            if message.what == "module probed":
                first_address = 8 + 72 + 16
                value = int.from_bytes(message.content[first_address : first_address + 8], "little") + 1
                content = message.content[:first_address] + value.to_bytes(8, "little")
                message = replace(message, content=content + message.content[first_address + 8 :])
            module.send(message)
        subprocess.run(["insmod", "/guest/probed.ko"], check=True)
        status = module.status()
        subprocess.run(["rmmod", "probed"], check=True)
    return status


def main():
    results = Path(sys.argv[1])
    folder = SESSIONS / "kinds"
    session = SessionFolder.open(folder)
    seen = {}
    # Some of the timer's ticks have to find user code running.
    later = f"/guest/workload 2; {LATER}; /guest/workload 2; {COUNT}"
    seen["later"] = run_session(folder, results / "later", ["sh", "-c", later])
    once = f"insmod /guest/probed.ko && {READS} && rmmod probed"
    seen["in module"] = run_session(SESSIONS / "in-module", results / "in-module", ["sh", "-c", once])
    seen["other build"] = other_build(session)
    subprocess.run(["insmod", "/guest/probed.ko"], check=True)
    seen["addresses"] = addresses()
    seen["placements"] = len(placements(session))
    seen["loaded"] = run_session(folder, results / "loaded", ["sh", "-c", READS])
    # A process that is in the module's code while the module goes would keep it; none is.
    subprocess.run(["rmmod", "probed"], check=True)
    seen["no tracepoint"] = refusal(session, 'kernel.trace("sys_enter")', 8 + 24, b"sys_never")
    seen["no frequency"] = refusal(session, "timer.profile(97)", 8 + 8, bytes(8))
    seen["no module"] = refusal(session, "module probed", 8, b"\7")
    (results / "kinds.json").write_text(json.dumps(seen))


main()
