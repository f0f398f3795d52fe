"""Stops of real programs under gdb, as FrameStates, with what gdb prints for every frame's arguments."""

from __future__ import annotations

import bisect
import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from cfi_tables.elf_image import ElfImage
from unwind.arguments.frame_state import FrameState
from unwind.dwarf.debug_info import DebugInfo
from unwind.dwarf.entry import Entry

HERE = Path(__file__).resolve().parent
CALLEE_SAVED = sum(1 << register for register in (3, 6, 7, 12, 13, 14, 15, 16))


@dataclass
class Frame:
    name: str
    die: Entry
    state: FrameState
    expected: list[tuple[str, str, str]]
    """Name, type and value of each argument as gdb prints them."""
    level: int
    body: bool
    """Past the function's prologue, which without optimization has to store the arguments first."""


class Memory:
    """Memory that gdb copied at a stop."""

    def __init__(self, ranges: Sequence[tuple[int, bytes]]) -> None:
        self.ranges = ranges

    def read(self, address: int, size: int) -> bytes:
        for low, data in self.ranges:
            if low <= address < low + len(data):
                return data[address - low : address - low + size]
        return b""


class Symbols:
    """Names of run-time addresses, by nm."""

    def __init__(self, program: Path) -> None:
        text = subprocess.run(
            ["nm", "-C", "-S", "--defined-only", program], check=True, capture_output=True, text=True
        ).stdout
        rows = (line.split(None, 3) for line in text.splitlines())
        self.rows = sorted((int(r[0], 16), int(r[1], 16), r[3]) for r in rows if len(r) == 4 and len(r[1]) == 16)

    def name(self, address: int) -> str | None:
        at = bisect.bisect(self.rows, (address, 1 << 64, "")) - 1
        if at < 0:
            return None
        start, size, name = self.rows[at]
        if address >= start + size:
            return None
        return name if address == start else f"{name}+{address - start}"


_SYMBOL = re.compile(r"(0x[0-9a-f]+) <((?:[^<>\"]|<[^<>]*>)*?)(\+\d+)?>")


def _comparable(value: str) -> str:
    """A value's text with what gdb and nm call differently alike: symbols by their last name, memory errors."""

    def symbol(match: re.Match[str]) -> str:
        if match[2].startswith(("error: ", "memory at ")):
            return f"{match[1]} <not there>"
        name = re.sub(r"\{[^}]*\}|\(.*\)|<.*>|\.\d+$|\]", "", match[2].removeprefix("vtable for "))
        return f"{match[1]} <{re.split(r'::|[.[]', name)[-1]}{match[3] or ''}>"

    return _SYMBOL.sub(symbol, value)


class Program:
    """One compiled program and its debug information."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.image = ElfImage.open(path)
        self.info = DebugInfo(self.image)
        self.symbols = Symbols(path)
        self.functions = [
            die for unit in self.info.units for die in _below(unit.root) if die.tag == 0x2E and die.ranges()
        ]

    @functools.cached_property
    def variables(self) -> dict[str, int]:
        """Addresses of symbols by their linkage names, by nm."""
        text = subprocess.run(["nm", "--defined-only", self.path], check=True, capture_output=True, text=True).stdout
        return {row[2]: int(row[0], 16) for line in text.splitlines() if len(row := line.split()) == 3}

    def chain(self, pc: int) -> list[Entry]:
        """The subprogram at `pc` and the inlined calls in it, outermost first."""
        for function in self.functions:
            if any(low <= pc < high for low, high in function.ranges()):
                return [function, *_inlined(function, pc)]
        return []

    def definition(self, name: str) -> Entry | None:
        for function in self.functions:
            if name in (function.inherited(0x6E), function.inherited(0x03)):
                return function
        return None

    def instructions(self, every: int) -> list[int]:
        """Addresses of each `every`-th instruction of the source file's functions, the first always."""
        text = subprocess.run(
            ["objdump", "-d", "--no-show-raw-insn", self.path], check=True, capture_output=True, text=True
        ).stdout
        starts = {low for function in self.functions for low, _ in function.ranges()}
        found: list[int] = []
        count = -1
        for line in text.splitlines():
            head, _, rest = line.partition(":")
            if not rest or not line.startswith(" "):
                continue
            address = int(head.strip(), 16)
            if address in starts:
                count = 0
            if count < 0 or not self.chain(address):
                count = -1
                continue
            if count % every == 0:
                found.append(address)
            count += 1
        return found

    def stops(self, addresses: Sequence[int], tmp: Path, hits: int = 2, heap: int = 4096) -> Iterator[list[Frame]]:
        """Every frame of the first `hits` stops at each address, with `heap` bytes of the heap."""
        for stop in self._dump(addresses, tmp, hits, HEAP=str(heap)):
            yield list(self.frames(stop))

    def calls_of(self, name: str, tmp: Path) -> Iterator[list[Frame]]:
        """The frames below each call of a function."""
        for frames in self.stops([self.variables[name]], tmp, hits=200, heap=1 << 20):
            yield [frame for frame in frames if frame.level]

    def returns(self, addresses: Sequence[int], tmp: Path) -> Iterator[tuple[Entry, FrameState, str | None]]:
        """The function at each entry address, the state after its first return, what gdb says it returned."""
        for stop in self._dump(addresses, tmp, 1, RETURNS="1"):
            function = self.chain(stop["entry"])[0]
            yield function, next(self.frames(stop)).state, stop["returned"]

    def _dump(self, addresses: Sequence[int], tmp: Path, hits: int, **more: str) -> Iterator[dict]:  # type: ignore[type-arg]
        stops, dump = tmp / "stops", tmp / "dump"
        stops.write_text("".join(f"{address:x}\n" for address in addresses))
        linked = min(segment.address for segment in self.image.segments if segment.type == 1) & ~0xFFF
        environment = {
            **os.environ,
            "STOPS": str(stops),
            "DUMP": str(dump),
            "HITS": str(hits),
            "LINKED": f"{linked:x}",
            "LC_ALL": "C.UTF-8",
            **more,
        }
        run = subprocess.run(
            ["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", "-x", HERE / "dump_stops.py", self.path],
            env=environment, capture_output=True, text=True, timeout=500,
        )  # fmt: skip
        assert dump.exists() and "Traceback" not in run.stderr, run.stderr[-2000:]
        with dump.open() as lines:
            for line in lines:
                yield json.loads(line)

    def frames(self, stop: dict) -> Iterator[Frame]:  # type: ignore[type-arg]
        memory = Memory([(low, bytes.fromhex(data)) for low, data in stop["memory"]])
        bias = stop["bias"]
        vector = {int(k): bytes.fromhex(v) for k, v in stop["frames"][0]["vector"].items()}
        states: list[FrameState] = []
        for row in stop["frames"]:
            if row["kind"] != "normal":
                continue
            # A physical frame and those inlined into it share registers.
            index = len(states)
            innermost = index == 0
            pc = row["pc"] - bias - (0 if innermost else 1)
            chain = self.chain(pc)
            states.append(
                FrameState(
                    registers=row["registers"],
                    known=(1 << 17) - 1 if innermost else CALLEE_SAVED,
                    cfa=row["cfa"],
                    pc=pc,
                    bias=bias,
                    read=memory.read,
                    interrupted=innermost,
                    caller=lambda at=index + 1: states[at] if at < len(states) else None,  # type: ignore[misc]
                    function=lambda chain=chain: chain[0] if chain else None,  # type: ignore[misc]
                    vector_registers=vector if innermost else {},
                    symbol=lambda address: self.symbols.name(address - bias),
                    definition=self.definition,
                    variable=lambda name: self.variables.get(name, -bias) + bias or None,
                )
            )
        pending: list[tuple[int, dict]] = []  # type: ignore[type-arg]
        index = 0
        for level, row in enumerate(stop["frames"]):
            if row["kind"] == "other":
                pending.clear()
                continue
            pending.append((level, row))
            if row["kind"] == "inline":
                continue
            chain = self.chain(states[index].pc)
            # At the first instruction of an inlined call gdb still shows the frame that it is inlined into.
            for (at, frame), die in zip(reversed(pending), chain, strict=False):
                yield Frame(
                    frame["name"], die, states[index], [tuple(a) for a in frame["arguments"]], at, frame["body"]
                )
            pending.clear()
            index += 1


def _below(die: Entry) -> Iterator[Entry]:
    for child in die.children():
        yield child
        if child.tag in (0x39, 0x02, 0x13, 0x2E, 0x0B):
            yield from _below(child)


def _inlined(die: Entry, pc: int) -> list[Entry]:
    for child in die.children():
        if child.tag in (0x1D, 0x0B) and any(low <= pc < high for low, high in child.ranges()):
            return ([child] if child.tag == 0x1D else []) + _inlined(child, pc)
    return []


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """`build(source, compiler, *flags)` gives the compiled Program; each combination once."""
    built: dict[tuple[str, ...], Program] = {}

    def make(source: str, compiler: str, *flags: str) -> Program:
        if shutil.which(compiler) is None or shutil.which("gdb") is None:
            reason = f"{compiler} or gdb is not installed"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
        key = (source, compiler, *flags)
        if key not in built:
            path = tmp_path_factory.mktemp("arguments") / "program"
            subprocess.run(
                [
                    compiler,
                    *(["-w"] if compiler != "rustc" else ["-A", "warnings"]),
                    *flags,
                    HERE / "programs" / source,
                    "-o",
                    path,
                ],
                check=True,
                capture_output=True,
            )
            built[key] = Program(path)
        return built[key]

    return make


@pytest.fixture
def comparable() -> Callable[[str], str]:
    """Makes two values' texts equal where gdb and nm only name symbols differently."""
    return _comparable
