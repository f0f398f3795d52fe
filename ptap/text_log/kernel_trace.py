"""Frames in what kernels print: oopses, warnings, dmesg's call traces and /proc/PID/stack.

Owns the forms of lib/vsprintf.c and kernel/kallsyms.c: `function+0x1c/0x90 [module build-id]`, offset and size of the
function behind its name, the module's build-id where CONFIG_STACKTRACE_BUILD_ID is set; before 4.11 and on 32 bits the
address stands before it as `[<ffffffff81012345>]`, in /proc/PID/stack as `[<0>]`. An address alone is one that the
kernel had no symbol for, or none to show.

The unwinder prints where calls return to. What ran itself is on the lines of registers (RIP, pc, …), in the headline of
a warning, and first in the trace of an arm64 oops, which repeats its pc there.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ptap.text_log.logged_frame import KernelPlace, LoggedFrame, LoggedKernel

_NUMBER = "([0-9a-f]{1,16})"
_FUNCTION = re.compile(
    rf"(?<![\w$.])([A-Za-z_$.][\w$.]*)\+0x{_NUMBER}/0x{_NUMBER}(?![\w])(?: \[([\w-]+)(?: ([0-9a-f]{{2,128}}))?\])?"
)
_ADDRESS = re.compile(r"(?:\[<([0-9a-f]{16})>\]|(?<=RIP: 0010:)0x([0-9a-f]{16}))")
_BEFORE = re.compile(r"(?:\[<([0-9a-f]{1,16})>\] ?)?\(?(\? )?$")
_RAN = re.compile(
    r"(?:\b(?:RIP|EIP|IP|NIP|PC|pc|epc|ip|PSW)(?: ?:| is at| (?=\[))[\s0-9a-fx:<>()\[\]]{0,80}"
    r"|\bWARNING: (?:.{0,200} at \S{1,200}:[0-9]+|\S{1,200}:[0-9]+ at) )$"
)
_TASK = re.compile(
    r"\bCPU: ([0-9]+)(?: UID: [0-9]+)? PID: ([0-9]+) Comm: (.{1,16}?) "
    r"(?:Kdump: loaded )?(?:Not tainted|Tainted: [A-Z ]{1,40}?) {1,20}([0-9]\S*) #"
)
_TASK_BUILD_ID = re.compile(r" ([0-9a-f]{40})\s*$")
_SLIDE = re.compile(r"\bKernel Offset: (?:0x([0-9a-f]{1,16})|disabled)")
_KERNEL_HALF = 1 << 63
_MENTIONED = re.compile(r"(?:\bat:|[^\]>:\s]|\b(?:lr|LR|ra|RA) ?:|\bLR (?:is at|\[[0-9a-f]{1,16}\])) *$")
"""What stands before a function that is named in a sentence, or by a register that is no pc."""
_CALLED_BY = re.compile(r"\bfrom *$")
_BACK = 400
"""Letters before a frame that are looked at."""


def slide_in(line: str) -> int | None:
    """How far the kernel was moved, where `line` is the one that tells (printed at the end of a panic)."""
    found = _SLIDE.search(line)
    return None if found is None else int(found[1] or "0", 16)


class KernelTrace:
    """The frames of kernels' traces. `pid`, `cpu` and `comm` are of the task that was named last."""

    name = "kernel"

    def __init__(self, slide: int | None = None) -> None:
        self.kernel = LoggedKernel(slide=slide)
        self.pid, self.cpu, self.comm = 0, 0, ""
        self._ran: tuple[str, int, int] | None = None
        self._at_begin = False

    def frames(self, line: str) -> list[LoggedFrame]:
        """The frames of `line`; a line about the task or the kernel is remembered."""
        self._remember(line)
        found = [self._named(line, match) for match in _FUNCTION.finditer(line)]
        if found:
            self._at_begin = False
            return found
        return [
            LoggedFrame(self._of_address(line, match, address), match.start(), match.end(), match.end(), word=" ")
            for match in _ADDRESS.finditer(line)
            if (address := int(match[1] or match[2], 16)) >= _KERNEL_HALF
        ]

    def _remember(self, line: str) -> None:
        if (slide := slide_in(line)) is not None:
            self.kernel = replace(self.kernel, slide=slide)
        elif "Call trace:" in line or "Call Trace:" in line:
            self._at_begin = True
        elif (task := _TASK.search(line)) is not None:
            build_id = _TASK_BUILD_ID.search(line, task.end())
            self.cpu, self.pid, self.comm = int(task[1]), int(task[2]), task[3]
            self.kernel = replace(self.kernel, release=task[4], build_id=build_id[1] if build_id else None)
            self._ran = None

    def _named(self, line: str, match: re.Match[str]) -> LoggedFrame:
        name, offset, size = match[1], int(match[2], 16), int(match[3], 16)
        first = max(0, match.start() - _BACK)
        before = line[first : match.start()]
        mark = _BEFORE.search(before)
        address = int(mark[1], 16) if mark is not None and mark[1] else 0
        ran = _RAN.search(before) is not None
        if ran:
            self._ran = (name, offset, size)
        exact = ran or offset == 0 or (self._at_begin and self._ran == (name, offset, size))
        place = KernelPlace(
            name, offset, size, exact, self.kernel, match[4], match[5], address if address >= _KERNEL_HALF else None
        )
        marked = (mark is not None and mark[2] is not None) or line.startswith(" (unreliable)", match.end())
        rest = before[: mark.start()] if mark is not None else before
        mentioned = not ran and _MENTIONED.search(rest) is not None and _CALLED_BY.search(rest) is None
        mentioned |= ran and "WARNING: " in before
        begin, end = match.span()
        return LoggedFrame(place, begin, end, end, named=name, unreliable=marked, alone=mentioned)

    def _of_address(self, line: str, match: re.Match[str], address: int) -> KernelPlace:
        exact = match[2] is not None or _RAN.search(line[max(0, match.start() - _BACK) : match.start()]) is not None
        return KernelPlace(None, 0, 0, exact, self.kernel, address=address)
