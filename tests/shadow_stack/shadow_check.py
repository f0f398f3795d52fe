"""One program's run walked at every instruction, and what of it is not exact, by function.

A step that is not exact is attributed to the frame whose rule gave the wrong caller, named by module and function,
since offsets change with every build of a library.
"""

from __future__ import annotations

import subprocess
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from oracles import elf_facts
from shadow_stack import stack_check
from shadow_stack.recorded_run import REPEATED, RETURNED_ELSEWHERE, REWROTE_RETURN, Int64s, RecordedRun, Steps

from cfi_tables.debug_file import find_debug_file
from cfi_tables.hot_loop import compiled
from cfi_tables.layout import StopReason
from unwind.address_space import AddressSpace
from unwind.module import Module, ModuleCatalog
from unwind.table_arena import MappedSpaces, MappedTables
from unwind.walk import FRAME_WIDTH, REGISTER_COUNT, SCRATCH_WIDTH, STATE_WIDTH

_MAX_DEPTH = 256
_WHAT = {
    stack_check.WRONG_CALLER: "wrong caller",
    stack_check.WRONG_CFA: "wrong CFA",
    stack_check.WRONG_REGISTER: "wrong register",
    stack_check.UNKNOWN_REGISTER: "unknown register",
    stack_check.ENDS_EARLY: "ends early",
    stack_check.ENDS_LATE: "ends late",
    stack_check.NO_END: "no end",
}


class Inexact(NamedTuple):
    """A place whose rule does not give the true caller."""

    module: str
    """The file's name without its folder."""
    function: str
    what: str


class Rowless(NamedTuple):
    """An address that the table has no row for."""

    path: str
    module: str
    function: str
    address: int
    """File virtual."""


REWRITTEN = Inexact("any", "any", "return address rewritten")
"""Between the moment when a program replaces a return address in use and the one when it goes there."""

_GROUPED = [
    stack_check.RESULT_CODE,
    stack_check.RESULT_PC,
    stack_check.RESULT_EXACT,
    stack_check.RESULT_REASON,
    stack_check.RESULT_REWRITTEN,
]


class Place(NamedTuple):
    """One address that `Inexact` was seen at, for people."""

    inexact: Inexact
    address: int
    """File virtual."""
    reason: StopReason


@dataclass(slots=True)
class CheckedRun:
    """What the walk was worth over one run."""

    instructions: int = 0
    """Executed instructions; the turns of a repeated one count as one."""
    states: int = 0
    """States compared: one before the first instruction, and one after each, each turn and each signal's begin."""
    exact: int = 0
    frames: int = 0
    """Frames of the true stacks, over all states."""
    status: int | None = None
    without_cfi: Counter[Rowless] = field(default_factory=Counter)
    """Frames where the walk ended because the table has no row, all before them being right."""
    inexact: Counter[Inexact] = field(default_factory=Counter)
    """All others."""
    places: Counter[Place] = field(default_factory=Counter)
    rewrites: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(module, function) that wrote over a return address in use."""
    returned_elsewhere: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(module, function) that returned to another place than their call's next instruction."""


class SteppedWalk:
    """The walk along a run: its address space, tables and memory, as they are at the step that was checked last."""

    def __init__(self, run: RecordedRun) -> None:
        self.space = AddressSpace()
        self.content = run.image.view(np.uint8)
        self.slices: Int64s = np.array(
            [word for each in run.regions for word in (each.address, each.first * 8, each.words * 8, 0)],
            dtype=np.int64,
        )
        self._run = run
        self._spaces = MappedSpaces(ModuleCatalog())
        self._content_of_arena: bytearray | None = None
        self._arena = np.zeros(0, dtype=np.uint8)
        self._added = 0
        self._frames = np.zeros((_MAX_DEPTH + 1) * FRAME_WIDTH, dtype=np.int64)
        self._registers = np.zeros((_MAX_DEPTH + 1) * REGISTER_COUNT, dtype=np.int64)
        self._state = np.zeros(STATE_WIDTH, dtype=np.int64)
        self._scratch = np.zeros(SCRATCH_WIDTH, dtype=np.int64)
        self._check = compiled(stack_check.check_steps)

    def tables(self) -> MappedTables:
        """The mapping array of the address space as it is now."""
        for mapping in self._run.mappings[self._added :]:
            self.space.add(mapping)
        self._added = len(self._run.mappings)
        return self._spaces.tables(self.space, self._run.pid)

    @property
    def arena(self) -> npt.NDArray[np.uint8]:
        """The tables of `tables()`, 8-byte aligned."""
        if self._spaces.arena.content is not self._content_of_arena:
            # Tables that are added make a new content.
            self._content_of_arena = self._spaces.arena.content
            self._arena = np.frombuffer(bytes(self._content_of_arena), dtype=np.uint8)
        return self._arena

    def check(self, block: Steps, first: int, last: int, results: Int64s) -> None:
        """Walk the steps `first` to `last` - 1 of `block`, which follow the ones checked before, into `results`."""
        tables = self.tables()
        self._check(
            self.arena, int64s(tables.values), len(tables.mappings), self._run.image, self.content, self.slices,
            len(self._run.regions), block.steps, first, last, block.deltas, block.nodes, self._state, self._frames,
            _MAX_DEPTH, self._registers, self._scratch, results,
        )  # fmt: skip


def check_run(stepper: Path, command: Sequence[str], *options: str) -> CheckedRun:
    """Step the program `command` and compare the walk with the truth after every instruction."""
    result = CheckedRun()
    with RecordedRun(stepper, command, *options) as run:
        walk = SteppedWalk(run)
        for block in run.blocks():
            results = np.zeros(block.count * stack_check.RESULT_WIDTH, dtype=np.int64)
            walk.check(block, 0, block.count, results)
            _count(result, walk, block, results.reshape(-1, stack_check.RESULT_WIDTH))
        result.status = run.status
    return result


def _count(result: CheckedRun, walk: SteppedWalk, block: Steps, rows: Int64s) -> None:
    space = walk.space
    steps = block.steps.reshape(-1, stack_check.STEP_WIDTH)
    codes = rows[:, stack_check.RESULT_CODE]
    result.states += block.count
    result.instructions += int(((block.flags & REPEATED) == 0).sum())
    result.frames += int(rows[:, stack_check.RESULT_DEPTH].sum())
    result.exact += int((codes == stack_check.EXACT).sum())
    tables = walk.tables()
    modules = dict(zip(tables.mappings, tables.modules, strict=True))
    unique, counts = np.unique(rows[codes != stack_check.EXACT][:, _GROUPED], axis=0, return_counts=True)
    for (code, pc, exact, reason, rewritten), count in zip(unique.tolist(), counts.tolist(), strict=True):
        module, address = _locate(space, modules, pc - (0 if exact else 1))
        if code == stack_check.NO_END and module is not None and module.is_entry_code(address):
            # Entry code without CFI is where a stack ends, which traces say too.
            result.exact += count
        elif code == stack_check.ENDS_EARLY and reason == StopReason.NO_ROW and module is not None:
            result.without_cfi[Rowless(module.path, *_name(module, address), address)] += count
        else:
            inexact = REWRITTEN if rewritten else Inexact(*_name(module, address), _WHAT[code])
            result.inexact[inexact] += count
            result.places[Place(inexact, address, StopReason(reason))] += count
    for flag, found in ((REWROTE_RETURN, result.rewrites), (RETURNED_ELSEWHERE, result.returned_elsewhere)):
        for index in np.flatnonzero(block.flags & flag).tolist():
            # The instruction is the one before the state; a block's first state follows the last one's.
            module, address = _locate(space, modules, int(steps[max(index - 1, 0), REGISTER_COUNT - 1]))
            found[_name(module, address)] += 1


def int64s(values: array[int]) -> Int64s:
    """`values` as a NumPy array over the same memory."""
    return np.frombuffer(values, dtype=np.int64) if len(values) else np.zeros(0, dtype=np.int64)


def _locate(space: AddressSpace, modules: dict[object, Module | None], pc: int) -> tuple[Module | None, int]:
    mapping = space.find(pc & (1 << 64) - 1)
    if mapping is None:
        return None, pc
    module = modules[mapping]
    return module, pc - (module.bias(mapping) if module else 0)


def _name(module: Module | None, address: int) -> tuple[str, str]:
    """(file name, function) of a file virtual address, "?" for what has no name."""
    if module is None:
        return "?", "?"
    name = Path(module.path).name
    starts, ends, names = _functions(module.path)
    index = bisect_right(starts, address) - 1
    if index < 0 or address >= ends[index]:
        section = next(
            (each.name for each in module.image.section_list if each.address <= address < each.address + each.size), "?"
        ) if module.image else "?"  # fmt: skip
        return name, section
    return name, names[index]


@cache
def _functions(path: str) -> tuple[list[int], list[int], list[str]]:
    """Starts, ends and names of a file's functions, by nm: of its debug file too, where there is one."""
    found = {}
    files = [Path(path)] if Path(path).exists() else []
    if files:
        from cfi_tables.elf_image import ElfImage

        debug = find_debug_file(ElfImage.open(path)).image
        files += [Path(debug.path)] if debug is not None else []
    for file in files:
        for dynamic in (True, False):
            try:
                symbols = elf_facts.symbols(file, dynamic=dynamic)
            except (elf_facts.FactsError, subprocess.CalledProcessError):
                continue
            for symbol in symbols:
                if symbol.kind in "TtWwiVv":
                    found.setdefault((symbol.address, symbol.size), symbol.name)
    ordered = sorted(found.items())
    # A symbol without a size, as assembly leaves it, goes on to the next one.
    following = [key[0] for key, _ in ordered[1:]] + [1 << 62]
    ends = [key[0] + key[1] if key[1] else after for (key, _), after in zip(ordered, following, strict=True)]
    return [key[0] for key, _ in ordered], ends, [name for _, name in ordered]


def functions_of(path: str) -> list[str]:
    """The names of a file's functions, in order of their addresses."""
    return _functions(path)[2]
