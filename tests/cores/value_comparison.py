"""Values of a core file by ptap, gdb and drgn, variable by variable.

A variable of ours stands beside gdb's of the same frame, name and order from the innermost block out. Texts are
compared as they are but for the names of symbols after pointers, and what cannot be read at a pointer's target.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cores.gdb_core import GdbFrame, GdbVariable

_SYMBOL = re.compile(r"(0x[0-9a-f]+) <((?:[^<>\"]|<(?:[^<>]|<[^<>]*>)*>)*?)(\+\d+)?>")
_INCOMPLETE = '", <incomplete sequence '
_BASE_NAME = re.compile(r"(?<=[{ ])<[^\"=]*> (?==)")


def comparable(text: str) -> str:
    """`text` without what gdb and others write each in its way."""

    def symbol(match: re.Match[str]) -> str:
        if match[2].startswith(("error: ", "memory at ")):
            return f"{match[1]} <not there>"
        # Of several symbols at one address each takes another one; gdb makes up some for the slots of the PLT.
        return match[1] + (f" <{match[3]}>" if match[3] else "")

    # gdb writes the type in a base class's name its way: `std::string const` for `const std::string`.
    return _BASE_NAME.sub(lambda match: re.sub(r"\bconst\b| ", "", match[0]), _SYMBOL.sub(symbol, text))


@dataclass
class Comparison:
    """Counts over the variables of one or more core files."""

    equal: int = 0
    both_unknown: int = 0
    only_ours: int = 0
    gdb_wrong: int = 0
    only_gdb: Counter[str] = field(default_factory=Counter)
    """By our reason."""
    missed: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    frames: int = 0

    @property
    def by_gdb(self) -> int:
        return self.equal + sum(self.only_gdb.values()) + len(self.different)

    @property
    def ours(self) -> int:
        return self.equal + self.only_ours + self.gdb_wrong + len(self.different)

    def __str__(self) -> str:
        return (
            f"{self.frames} frames: {self.equal} values equal, {self.both_unknown} unknown to both, "
            f"{self.only_ours} only ours, {sum(self.only_gdb.values())} only gdb's {dict(self.only_gdb)}, "
            f"{self.gdb_wrong} where gdb is wrong, {len(self.different)} different"
        )


Excuse = Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], bool]
"""Whether gdb is wrong about a variable, as the trace shows: (trace, frame, variable)."""


def _reason(why: str) -> str:
    return re.sub(r"0x[0-9a-f]+|register \w+", "…", why)


def compare(traces: list[dict[str, Any]], by_gdb: dict[int, list[GdbFrame]], excuse: Excuse) -> Comparison:
    """Compare ptap's JSON traces of a core file with gdb's frames."""
    result = Comparison()
    assert {trace["tid"] for trace in traces} == set(by_gdb)
    for trace in traces:
        frames = by_gdb[trace["tid"]]
        ours = [int(frame["address"], 16) for frame in trace["frames"]]
        assert ours == [frame.pc for frame in frames], (trace["stop"], [frame.function for frame in frames])
        for frame, expected in zip(trace["frames"], frames, strict=True):
            result.frames += 1
            _compare_frame(trace, frame, expected, result, excuse)
    return result


def _compare_frame(
    trace: dict[str, Any], frame: dict[str, Any], expected: GdbFrame, result: Comparison, excuse: Excuse
) -> None:
    ours: dict[tuple[bool, str], list[dict[str, Any]]] = defaultdict(list)
    for is_argument, kind in ((True, "arguments"), (False, "locals")):
        for variable in frame[kind]:
            ours[is_argument, variable["name"]].append(variable)
    for theirs in expected.variables:
        found = ours[theirs.is_argument, theirs.name]
        mine = found.pop(0) if found else {"value": None, "why": "not listed"}
        where = f"{frame['function']} {frame['address']} {theirs.name}: gdb {theirs.raw}; ours {mine}"
        if theirs.raw is None and theirs.pretty is None:
            result.only_ours += mine["value"] is not None
            result.both_unknown += mine["value"] is None
        elif mine["value"] is None:
            result.only_gdb[_reason(mine["why"])] += 1
            result.missed.append(where)
        elif _same(mine["value"], theirs):
            result.equal += 1
        elif excuse(trace, frame, mine):
            result.gdb_wrong += 1
        else:
            result.different.append(where)
    result.only_ours += sum(each["value"] is not None for rest in ours.values() for each in rest)


def _same(value: str, theirs: GdbVariable) -> bool:
    ours = comparable(value)
    return any(_agrees(ours, comparable(text)) for text in (theirs.raw, theirs.pretty) if text is not None)


def _agrees(ours: str, text: str) -> bool:
    if _INCOMPLETE not in text:
        return ours == text
    # gdb loses the character before bytes that begin a character which is not complete (its own x/b shows it).
    first, *rest = text.split(_INCOMPLETE)
    lost = r"(?:\\[0-7]{3}|\\?.)?"
    pattern = re.escape(first) + "".join(
        lost + re.escape(piece.partition(">")[0]) + '"' + re.escape(piece.partition(">")[2]) for piece in rest
    )
    return re.fullmatch(pattern, ours, re.DOTALL) is not None


def count_by_drgn(core: Path) -> tuple[int, int]:
    """(present, all) variables in drgn's stack traces of every thread of the core file."""
    import drgn

    prog = drgn.Program()
    prog.set_core_dump(str(core))
    with suppress(drgn.MissingDebugInfoError):  # libraries without any; the others are loaded
        prog.load_debug_info(default=True, main=True)
    present = total = 0
    for thread in prog.threads():
        for frame in thread.stack_trace():
            try:
                names = frame.locals()
            except (LookupError, ValueError):
                continue
            for name in names:
                total += 1
                try:
                    present += not frame[name].absent_
                except Exception:  # it has many for what it cannot do, such as C++ references
                    continue
    return present, total
