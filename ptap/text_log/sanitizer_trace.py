"""Frames that the sanitizers print: of addresses, memory, threads, leaks and undefined behaviour.

Owns the forms of compiler-rt's sanitizer_stacktrace_printer.cpp, where gcc's come from as well:

    #1 0x55d1c7c5b1c8 in main (/tmp/a.out+0x11c8) (BuildId: 9ea5…)
    #0 <null> <null> (a.out+0x122e)
    SUMMARY: AddressSanitizer: heap-use-after-free (/tmp/a.out+0x1370) in main

the second the thread sanitizer's, with the file's name alone. Offsets are virtual addresses of the file. The sanitizers
go back into the call themselves before they print, so every frame is exact. What they have symbolized has no offset,
and is left as it is.
"""

from __future__ import annotations

import re

from ptap.text_log.logged_frame import Counted, FilePlace, LoggedFrame

_HEAD = re.compile(r"#([0-9]{1,6}) +(?:(0x[0-9a-f]{1,16})(?= )|(?=\S))")
_TAIL = re.compile(r"\+0x([0-9a-f]{1,16})\)(?: \(BuildId: ([0-9a-fA-F]{2,128})\))?(?= *$| in )")
_SUMMARY = re.compile(r"SUMMARY: \w+Sanitizer: [\w -]+?(?= \()")
_PROCESS = re.compile(r"==([0-9]{1,10})==(?:ERROR|WARNING): |Sanitizer: .{0,200}\(pid=([0-9]{1,10})\)")
_UNKNOWN = "<null>"


class SanitizerTrace:
    """The frames of sanitizers' reports. `pid` is the process that the last report began with."""

    name = "sanitizer"

    def __init__(self) -> None:
        self.pid = 0

    def frames(self, line: str) -> list[LoggedFrame]:
        """The frame of `line`, if it has one."""
        process = _PROCESS.search(line)
        if process is not None:
            self.pid = int(process[1] or process[2])
        head = _HEAD.search(line)
        summary = _SUMMARY.search(line) if head is None else None
        begin = head or summary
        if begin is None:
            return []
        tail = _TAIL.search(line, begin.end())
        if tail is None:
            return []
        # A path may have spaces and brackets, and so have functions before it: a path begins at its root.
        bracket = line.find(" (/", begin.end() - 1, tail.start())
        if bracket < 0:
            bracket = line.rfind(" (", begin.end() - 1, tail.start())
        if bracket < 0:
            return []
        path = line[bracket + 2 : tail.start()]
        build_id = tail[2].lower() if tail[2] else None
        place = FilePlace(path, int(tail[1], 16), Counted.FROM_BASE, True, build_id=build_id)
        if head is None:
            return [LoggedFrame(place, begin.end(), begin.end(), begin.end(), alone=True)]
        return [_frame(line, head, bracket, place)]


def _frame(line: str, head: re.Match[str], bracket: int, place: FilePlace) -> LoggedFrame:
    """The frame whose file is named from `bracket` on."""
    number = int(head[1])
    if head[2] is not None:
        place = FilePlace(
            place.path, place.number, place.counted, True, build_id=place.build_id, address=int(head[2], 16)
        )
        named = line[head.end() : bracket].strip().removeprefix("in ").strip()
        if named:
            return LoggedFrame(place, head.end(), bracket, bracket, " in ", named=named, number=number)
        return LoggedFrame(place, head.end(), head.end(), bracket, " in ", number=number)
    words = line[head.end() : bracket].removesuffix(f" {_UNKNOWN}")
    if words == _UNKNOWN:  # neither function nor file
        return LoggedFrame(place, head.end(), head.end(), bracket, word="", number=number)
    return LoggedFrame(place, head.end(), head.end() + len(words), bracket, named=words, number=number)
