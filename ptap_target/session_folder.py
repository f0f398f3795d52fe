"""The folder that `ptap module build` has written, as the traced machine reads it.

`session.json` says for which kernel it is and what stands in `messages.bin`; the module lies beside them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptap_target.elf_identity import read_identity

FORMAT = 1
DESCRIPTION = "session.json"
MESSAGES = "messages.bin"
MODULE = "ptap_kernel.ko"


class SessionError(Exception):
    """What makes a run impossible; the text says what to do."""


@dataclass(frozen=True)
class Message:
    """One message to the module."""

    what: str
    """For people, when it is refused."""
    content: bytes
    probes: tuple[str, ...] = ()
    """The names of the session's probes, by their numbers."""

    def refused(self, reason: str) -> SessionError:
        """What to tell when the module refuses it for `reason`, which may begin with the number of a probe."""
        found = re.match(r"probe (\d+): (.*)", reason, re.DOTALL)
        if found is not None and int(found[1]) < len(self.probes):
            return SessionError(f"{self.probes[int(found[1])]}: {found[2]}")
        return SessionError(f"{self.what}: {reason}")


@dataclass(frozen=True)
class SessionFolder:
    """A session that is ready to run."""

    module: Path
    description: dict[str, Any]
    """As in session.json."""
    messages: list[Message]
    """In order; the last one starts the probes."""
    stop: Message

    @classmethod
    def open(cls, folder: Path) -> SessionFolder:
        """Read `folder`. Raises SessionError."""
        try:
            description = json.loads((folder / DESCRIPTION).read_text())
            content = (folder / MESSAGES).read_bytes()
        except (OSError, ValueError) as error:
            raise SessionError(f"{folder} is no folder of `ptap module build`: {error}") from None
        if description.get("format") != FORMAT:
            raise SessionError(f"{folder} was made by another version of ptap; make it again with `ptap module build`")
        messages = []
        probes = tuple(probe["name"] for probe in description["probes"])
        at = 0
        for entry in description["messages"]:
            messages.append(Message(entry["what"], content[at : at + entry["bytes"]], probes))
            at += entry["bytes"]
        return cls(folder / MODULE, description, messages[:-1], messages[-1])

    def table_of(self, build_id: str) -> bytes | None:
        """The unwind table of the program or library of that build-id (hexadecimal digits); None where there is none.

        Raises SessionError when it cannot be read.
        """
        entry = self.description.get("files", {}).get(build_id)
        if entry is None or entry["table"] is None:
            return None
        try:
            content: bytes = (self.module.parent / entry["table"]).read_bytes()
            return content
        except OSError as error:
            raise SessionError(f"{self.module.parent} is not whole: {error}") from None

    def check_programs(self) -> None:
        """Raise SessionError when a program that is probed is another one here than where the folder was made."""
        for probe in self.description["probes"]:
            path, wanted = probe.get("path"), probe.get("build_id")
            if path is None:
                continue
            try:
                identity = read_identity(path)
            except OSError as error:
                raise SessionError(f"{probe['name']}: {path}: {error.strerror}") from None
            if wanted is not None and (identity is None or identity.build_id != wanted):
                raise SessionError(f"{probe['name']}: {path} is not the file of build-id {wanted} that was resolved")

    def check_kernel(self, notes: Path = Path("/sys/kernel/notes")) -> None:
        """Raise SessionError when the running kernel is another one than the folder was made for."""
        wanted = self.description["build_id"]
        try:
            running = notes.read_bytes()
        except OSError:
            return  # the module and its symbols are compared by the kernel itself, too
        if wanted is not None and bytes.fromhex(wanted) not in running:
            raise SessionError(
                f"this session was made for a kernel with the build-id {wanted}, which is not the running one; "
                "make it again from the running kernel's vmlinux"
            )
