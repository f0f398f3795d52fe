"""Run in the guest by its own Python: `guest_rate.py SESSION CAPTURE COMMAND...`, a session whose reader keeps up.

Standard library only; the collector is the session's own, which runs whenever it can, and the command otherwise.
"""

import os
import sys
from pathlib import Path


def main():
    session, capture, command = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    sys.path.insert(0, str(session / "run.pyz"))
    from ptap_target.collector import run_session

    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    status, _ = run_session(session, capture, command)
    sys.exit(status)


main()
