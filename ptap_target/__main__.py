"""`python3 -m ptap_target DIR -o CAPTURE [--duration S] [--only] [-- CMD...]`, also `run.pyz` of a session's folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ptap_target.collector import run_session
from ptap_target.session_folder import SessionError


def main() -> None:
    """Run a session and tell how it went; exits with the command's own status, 2 when nothing could be traced."""
    arguments = sys.argv[1:]
    command: list[str] = []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, command = arguments[:at], arguments[at + 1 :]
    parser = argparse.ArgumentParser(prog="run", description="Trace with the session of DIR into a capture file.")
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("-o", "--output", metavar="CAPTURE", type=Path, required=True)
    parser.add_argument("--duration", metavar="SECONDS", type=float, help="End after so long.")
    parser.add_argument("--only", action="store_true", help="Record the processes of CMD and no others.")
    options = parser.parse_args(arguments)
    try:
        status, told = run_session(options.folder, options.output, command, options.duration, only=options.only)
    except SessionError as error:
        print(f"ptap: {error}", file=sys.stderr)
        sys.exit(2)
    for line in told:
        print(f"ptap: {line}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
