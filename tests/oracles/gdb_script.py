"""The half of the gdb oracle that runs inside gdb: stops a program at addresses and writes down what gdb sees
there.

Started by `oracles/gdb.py` as `gdb -x gdb_script.py` with the name of a request file (JSON) in
PTAP_GDB_REQUEST; the answer goes to the file that the request names. Runs in gdb's own Python: standard
library and `gdb` alone.

Stop addresses are file virtual addresses. They become run-time addresses from /proc/PID/maps and the file's
program headers, at each stop of any kind: the start, each shared library event, fork and exec. So nothing
depends on what gdb itself believes about relocation.

Where gdb's own answer is not the plain truth about the stack, and what is done about it:

* At the first instruction of an inlined body gdb pretends not to have entered it yet ("skipped" inline
  frames), so that `step` feels right. `_reveal_inlined` steps into them, which moves nothing, until as many
  show as there are.
* gdb invents TAILCALL frames from call site entries, for functions whose frames are gone. They are left out.
* Without CFI, gdb guesses by looking at the prologue's instructions. Such frames look like all others (its
  epilogue scan, too, is used only without CFI). Callers must know which functions have no CFI, and end the
  comparison there.
* gdb gives the arguments of inlined functions in reverse order. Compare by name.
* gdb resolves DW_OP_entry_value from the caller's call site entry, so it knows some arguments that need more than
  the frame's own registers. (`print entry-values no` only hides the extra `name@entry`.)
* For a library function with several names, gdb prefers the debug information's (`__GI_raise` for `raise`).
* An unwritten CFI rule for a callee-saved register is taken as "same value", as every unwinder does.
* gdb goes on only while the CFA grows. On a stack switch to a lower address, it stops with "previous frame
  inner to this frame (corrupt stack?)" unless the frame is a signal frame; see `stop_reason`.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import threading
import time
from pathlib import Path
from typing import Any

import gdb  # type: ignore[import-untyped]  # gdb's own module, which exists only inside gdb

REGISTERS = ("rbx", "rbp", "r12", "r13", "r14", "r15", "rsp")
PAGE = 0x1000
PT_LOAD = 1
PF_X = 1

FRAME_KINDS = {
    gdb.NORMAL_FRAME: "normal",
    gdb.INLINE_FRAME: "inline",
    gdb.SIGTRAMP_FRAME: "signal",
    gdb.ARCH_FRAME: "architecture",
    gdb.DUMMY_FRAME: "dummy",
    gdb.SENTINEL_FRAME: "sentinel",
    gdb.TAILCALL_FRAME: "tailcall",
}

SETTINGS = (
    "set confirm off",
    "set pagination off",
    "set width 0",
    "set height 0",
    "set language auto",
    "set disable-randomization on",
    "set breakpoint pending on",
    "set print entry-values no",
    "set print frame-arguments all",
    "set print elements 200",
    "set print demangle on",
    "set print asm-demangle on",
    "set backtrace past-main on",
    "set backtrace limit unlimited",
    "set stop-on-solib-events 1",
    "set can-use-hw-watchpoints 0",
    "handle all nostop noprint pass",
)

FOLLOW = {
    "both": (
        "set detach-on-fork off",
        "set schedule-multiple on",
        "set follow-fork-mode parent",
    ),
    "parent": ("set detach-on-fork on", "set follow-fork-mode parent"),
    "child": ("set detach-on-fork on", "set follow-fork-mode child"),
}


def load_segments(path: str) -> list[tuple[int, int]]:
    """(file offset, virtual address) of each executable PT_LOAD of a little-endian 64-bit ELF file, rounded down to
    pages.
    """
    segments = []
    with open(path, "rb") as file:
        header = file.read(64)
        table, entry_size, count = (
            struct.unpack_from("<Q", header, 32)[0],
            struct.unpack_from("<H", header, 54)[0],
            struct.unpack_from("<H", header, 56)[0],
        )
        for index in range(count):
            file.seek(table + index * entry_size)
            kind, flags, offset, address = struct.unpack("<IIQQ", file.read(24))
            # Segments of other rights may share the page: lld places them so.
            if kind == PT_LOAD and flags & PF_X:
                segments.append((offset & -PAGE, address & -PAGE))
    return segments


def mappings_of(pid: int) -> list[tuple[str, int, int]]:
    """(path, start, file offset) of each executable mapping; none for a process that ended without gdb's
    notice.
    """
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []
    found = []
    for line in lines:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and "x" in fields[1]:
            found.append((fields[5], int(fields[0].split("-")[0], 16), int(fields[2], 16)))
    return found


def biases(pid: int) -> dict[str, int]:
    """Run-time address minus file virtual address, by path, of what the process has mapped executable."""
    found = {}
    for path, start, offset in mappings_of(pid):
        if path.startswith("["):
            found[path] = start
        elif path.startswith("/"):
            for segment_offset, address in load_segments(path):
                if segment_offset == offset:
                    found.setdefault(path, start - address)
    return found


class Session:
    """One program from its start to its last wanted hit."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request
        self.stops: list[tuple[str, int]] = [(path, address) for path, address in request["stops"]]
        self.hits: list[dict[str, Any]] = []
        self.hits_by_stop = [0] * len(self.stops)
        self.armed: dict[int, gdb.Breakpoint] = {}
        self.wanted: dict[tuple[int, int], int] = {}
        """(inferior, run-time address) → index of the stop."""
        self.last_event: gdb.Event | None = None
        self.deadline = time.monotonic() + request["seconds"]

    def run(self) -> None:
        for setting in (*SETTINGS, *FOLLOW[self.request["follow"]]):
            gdb.execute(setting, to_string=True)
        gdb.execute("catch exec", to_string=True)
        gdb.events.stop.connect(self._note_event)
        gdb.execute("starti " + self.request["arguments"], to_string=True)
        # A program that never stops again is interrupted, so that the hits until then are told.
        timer = threading.Timer(self.request["seconds"], os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()
        self._run_to_hits()
        timer.cancel()

    def _run_to_hits(self) -> None:
        while self._wants_more() and self._arm():
            self.last_event = None
            gdb.execute("continue", to_string=True)
            if isinstance(self.last_event, gdb.BreakpointEvent):
                self._record()

    def _note_event(self, event: gdb.Event) -> None:
        self.last_event = event

    def _wants_more(self) -> bool:
        wanted: int = self.request["max_hits"]
        return len(self.hits) < wanted and time.monotonic() < self.deadline

    def _arm(self) -> bool:
        """Breakpoints as the processes' present mappings want them; False when no process is left.

        gdb gives one address breakpoint a location in every process. So a breakpoint belongs to an address,
        and a hit at it counts only where the process that hit it has a wanted place at that address.
        """
        live = {inferior.num: biases(inferior.pid) for inferior in gdb.inferiors() if inferior.pid}
        live = {number: mapped for number, mapped in live.items() if mapped}
        if not live:
            return False
        self.wanted = {}
        owners: dict[int, int] = {}
        for number, mapped in live.items():
            for index, (path, address) in enumerate(self.stops):
                limit = self.request["hits_per_stop"]
                if path in mapped and (limit is None or self.hits_by_stop[index] < limit):
                    self.wanted.setdefault((number, mapped[path] + address), index)
                    owners.setdefault(mapped[path] + address, number)
        for address in [address for address in self.armed if address not in owners]:
            breakpoint_ = self.armed.pop(address)
            if breakpoint_.is_valid():
                breakpoint_.delete()
        selected = gdb.selected_inferior().num
        for address, number in owners.items():
            if address not in self.armed or not self.armed[address].is_valid():
                self._select(number)
                self.armed[address] = gdb.Breakpoint(f"*{address:#x}")
        self._select(selected if selected in live else min(live))
        return True

    @staticmethod
    def _select(inferior_number: int) -> None:
        if gdb.selected_inferior().num != inferior_number:
            gdb.execute(f"inferior {inferior_number}", to_string=True)

    def _record(self) -> None:
        event: Any = self.last_event
        ours = {breakpoint_.number for breakpoint_ in self.armed.values() if breakpoint_.is_valid()}
        if not any(breakpoint_.number in ours for breakpoint_ in event.breakpoints):
            return
        thread = gdb.selected_thread()
        pc = gdb.newest_frame().pc()
        index = self.wanted.get((gdb.selected_inferior().num, pc))
        if index is None:
            # A process that was forked since the breakpoints were looked at.
            self._arm()
            index = self.wanted.get((gdb.selected_inferior().num, pc))
        if index is None:
            return
        self.hits_by_stop[index] += 1
        self._reveal_inlined(pc)
        frames, reason = self._frames()
        self.hits.append(
            {
                "stop": index,
                "pid": thread.ptid[0],
                "tid": thread.ptid[1],
                "frames": frames,
                "stop_reason": reason,
            }
        )

    @staticmethod
    def _reveal_inlined(pc: int) -> None:
        """Make gdb show the inlined frames that begin exactly at `pc`."""
        try:
            block = gdb.block_for_pc(pc)
        except RuntimeError:
            return
        depth = -1
        while block is not None and not block.is_global and not block.is_static:
            depth += block.function is not None
            block = block.superblock
        for _ in range(max(depth, 0)):
            shown, frame = 0, gdb.newest_frame()
            while frame is not None and frame.type() == gdb.INLINE_FRAME:
                shown, frame = shown + 1, frame.older()
            if shown >= depth:
                return
            gdb.execute("step", to_string=True)
            if gdb.newest_frame().pc() != pc:
                raise RuntimeError(f"gdb moved from {pc:#x} while it was to show inlined frames")

    def _frames(self) -> tuple[list[dict[str, Any]], str]:
        """What gdb sees, innermost first, and why it sees no more."""
        frames: list[dict[str, Any]] = []
        frame: gdb.Frame | None = gdb.newest_frame()
        reason = ""
        limit = self.request["max_frames"]
        while frame is not None:
            if limit is not None and len(frames) >= limit:
                return frames, "limit"
            if frame.type() != gdb.TAILCALL_FRAME:
                frames.append(self._describe(frame))
            reason = gdb.frame_stop_reason_string(frame.unwind_stop_reason())
            try:
                frame = frame.older()
            except gdb.error as error:
                reason, frame = str(error), None
        return frames, reason

    def _describe(self, frame: gdb.Frame) -> dict[str, Any]:
        position = frame.find_sal()
        symtab = position.symtab
        kind = FRAME_KINDS.get(frame.type(), str(frame.type()))
        described: dict[str, Any] = {
            "pc": frame.pc(),
            "function": frame.name(),
            "file": symtab.fullname() if symtab else None,
            "filename": symtab.filename if symtab else None,
            "line": position.line if symtab else None,
            "kind": kind,
            "inlined": kind == "inline",
            "arguments": self._arguments(frame) if self.request["values"] else [],
            "registers": None,
        }
        if self.request["registers"] and kind != "inline":
            described["registers"] = {name: _register(frame, name) for name in REGISTERS}
        return described

    def _arguments(self, frame: gdb.Frame) -> list[dict[str, Any]]:
        try:
            block = frame.block()
        except RuntimeError:
            return []
        while block is not None and block.function is None:
            block = block.superblock
        if block is None:
            return []
        return [self._argument(frame, symbol) for symbol in block if symbol.is_argument]

    def _argument(self, frame: gdb.Frame, symbol: gdb.Symbol) -> dict[str, Any]:
        told: dict[str, Any] = {
            "name": symbol.name,
            "type": str(symbol.type),
            "value": None,
            "unavailable": False,
            "error": None,
        }
        try:
            value = symbol.value(frame)
            told["value"] = value.format_string(raw=not self.request["pretty_printers"], deref_refs=True)
            told["unavailable"] = bool(value.is_optimized_out)
        except (gdb.error, gdb.MemoryError, RuntimeError) as error:
            told["unavailable"], told["error"] = True, str(error)
        return told


def _register(frame: gdb.Frame, name: str) -> int | None:
    """The register's value in this frame as an unsigned number, None where gdb has no value."""
    try:
        value = frame.read_register(name)
        return None if value.is_optimized_out else int(value) & (1 << 64) - 1
    except (gdb.error, ValueError):
        return None


def main() -> None:
    request = json.loads(Path(os.environ["PTAP_GDB_REQUEST"]).read_text())
    session = Session(request)
    answer: dict[str, Any] = {"error": None}
    try:
        session.run()
    except (
        Exception,
        KeyboardInterrupt,
    ) as error:  # whatever happens goes to the caller: gdb's own exit status says nothing
        answer["error"] = f"{type(error).__name__}: {error}"
    answer["hits"] = session.hits
    answer["timed_out"] = time.monotonic() >= session.deadline
    Path(request["answer"]).write_text(json.dumps(answer))
    for inferior in gdb.inferiors():
        if inferior.pid:
            gdb.execute(f"kill inferiors {inferior.num}", to_string=True)


main()
