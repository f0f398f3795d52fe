"""Where the modules of a session lie that are loaded when it begins: /sys/module/M/sections, as messages.

Of modules that are loaded later the kernel module sees it itself.
"""

from __future__ import annotations

import struct
from pathlib import Path

from ptap_target.session_folder import Message, SessionError, SessionFolder

_PLACEMENT = struct.Struct("<IIQ")
"""Module, section, address (PLACEMENT_MESSAGE of relay_reader/record_schema.py)."""


def placements(session: SessionFolder, sys_module: Path = Path("/sys/module")) -> list[Message]:
    """A message a section of each loaded module. Raises SessionError where another build of one is loaded."""
    found = []
    head = bytes.fromhex(session.description.get("placement", ""))
    for number, module in enumerate(session.description.get("modules", ())):
        folder = sys_module / module["name"]
        if not (folder / "initstate").exists():
            continue
        _check_build(folder, module)
        for index, section in enumerate(module["sections"]):
            address = _address(folder / "sections" / section["name"])
            if address:
                what = f"module {module['name']}, {section['name']}"
                found.append(Message(what, head + _PLACEMENT.pack(number, index, address)))
    return found


def _check_build(folder: Path, module: dict[str, str]) -> None:
    try:
        notes = (folder / "notes" / ".note.gnu.build-id").read_bytes()
    except OSError:
        return  # built without
    if module["build_id"] is not None and bytes.fromhex(module["build_id"]) not in notes:
        raise SessionError(
            f"the session has another build of module {module['name']} than the one that is loaded; make it again with "
            "that one's file (--module-file)"
        )


def _address(file: Path) -> int:
    """0 where there is no such section: that of the initialization is gone."""
    try:
        return int(file.read_text(), 16)
    except (OSError, ValueError):
        return 0
