"""Frames as systemd-coredump logs them: `#1  0x000055d0b7a5b139 n/a (/usr/bin/prog + 0x1139)`.

Owns the forms of systemd's src/shared/elf-util.c. Offsets are counted from the file's first page in memory; files have
their names alone in newer releases, and their build-ids on lines before: `Module prog with build-id 5f0a…`.
"""

from __future__ import annotations

import os
import re

from ptap.text_log.logged_frame import Counted, FilePlace, LoggedFrame

_FRAME = re.compile(r"#([0-9]{1,6}) +0x([0-9a-f]{1,16}) (\S.*) \((\S.*) \+ 0x([0-9a-f]{1,16})\)\s*$")
_MODULE = re.compile(r"\bModule (\S.*) with build-id ([0-9a-f]{2,128})\s*$")
_UNKNOWN = "n/a"
_LIMIT = 10_000
"""Modules that are remembered."""


class CoreDumpTrace:
    """The frames of dumped processes, and the build-ids of their files."""

    name = "core dump"

    def __init__(self) -> None:
        self._build_ids: dict[str, str] = {}

    def frames(self, line: str) -> list[LoggedFrame]:
        """The frame of `line`, if it is one."""
        module = _MODULE.search(line)
        if module is not None:
            if len(self._build_ids) >= _LIMIT:
                self._build_ids.clear()
            self._build_ids[os.path.basename(module[1])] = module[2]
            return []
        found = _FRAME.search(line)
        if found is None:
            return []
        number, address, name, path = int(found[1]), int(found[2], 16), found[3], found[4]
        build_id = self._build_ids.get(os.path.basename(path))
        place = FilePlace(
            path, int(found[5], 16), Counted.FROM_FIRST_PAGE, number == 0, build_id=build_id, address=address
        )
        if name == _UNKNOWN:
            begin = found.start(3) - 1
            return [LoggedFrame(place, begin, begin, found.end(3), " ", word=" ", number=number)]
        begin = found.start(3)
        return [LoggedFrame(place, begin, found.end(3), found.end(3), named=name, number=number)]
