"""Says where a trace of the output contract and a stop of gdb differ.

Takes a trace's frames as they come from JSON Lines, and one `Hit`. The two are of different runs, with
different load addresses: pcs are compared within their page, which relocation keeps; pointers in values are
not compared. Nothing here uses the code under test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from oracles import elf_facts
from oracles.gdb import Argument, Frame, Hit

PAGE_OFFSET = 0xFFF

GDB_GAVE_UP = "previous frame"
"""How gdb's stop reasons begin when it refuses a stack that goes on (inner to this frame, identical, …)."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing of one frame that is not as gdb has it."""

    text: str
    index: int | None = None
    """Of the frame; None for what is of the whole stack."""
    line: bool = False
    """It is the file and line that differ."""
    ours: dict[str, Any] | None = None
    """Our argument that differs."""
    gdbs: Argument | None = None

    def __str__(self) -> str:
        return self.text if self.index is None else f"frame {self.index}: {self.text}"


def disagreements(
    frames: Sequence[dict[str, Any]],
    hit: Hit,
    *,
    arguments: Sequence[int] = (),
    until: str | None = None,
    cut: bool = False,
) -> list[str]:
    """One line for each difference, then both stacks; none when both saw the same stack. See `differences`."""
    told = [str(each) for each in differences(frames, hit, arguments=arguments, until=until, cut=cut)]
    if told:
        told.append("ours: " + " < ".join(str(frame["function"]) for frame in _of_user(frames)[:20]))
        told.append("gdb:  " + " < ".join(str(frame.function) for frame in hit.frames[:20]))
    return told


def differences(
    frames: Sequence[dict[str, Any]],
    hit: Hit,
    *,
    arguments: Sequence[int] = (),
    until: str | None = None,
    cut: bool = False,
    normal: Callable[[str], str] | None = None,
) -> list[Difference]:
    """Where a trace's frames and gdb's differ.

    `arguments` are the indices of frames whose argument values are compared too, as `normal` (`normal_value`) writes
    them. `until` is the name of gdb's outermost frame to compare: for stacks on which gdb goes on by guessing. Where
    gdb gave up, only the frames that it saw count.
    """
    expected = list(hit.frames)
    if until is not None:
        names = [frame.function for frame in expected]
        expected = expected[: names.index(until) + 1]
    found = _of_user(frames)
    told = []
    if hit.stop_reason.startswith(GDB_GAVE_UP):
        found = found[: len(expected)]
    if cut:
        expected = expected[: max(len(found), 1)]
    if len(found) != len(expected):
        told.append(Difference(f"{len(found)} frames, gdb has {len(expected)}"))
    for index, (ours, gdbs) in enumerate(zip(found, expected, strict=False)):
        told += [replace(each, index=index) for each in _frame_differences(ours, gdbs)]
        if index in arguments:
            told += [replace(each, index=index) for each in argument_differences(ours, gdbs, normal or normal_value)]
    return told


def _of_user(frames: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [frame for frame in frames if frame["space"] == "user"]


def _frame_differences(ours: dict[str, Any], gdbs: Frame) -> list[Difference]:
    told = []
    if int(ours["address"], 16) & PAGE_OFFSET != gdbs.pc & PAGE_OFFSET:
        told.append(Difference(f"pc {ours['address']}, gdb has {gdbs.pc:#x}"))
    if not same_function(ours["function"], gdbs.function) and not _are_aliases(ours, gdbs.function):
        told.append(Difference(f"function {ours['function']}, gdb has {gdbs.function}"))
    if ours["inlined"] != gdbs.inlined:
        told.append(Difference(f"inlined {ours['inlined']}, gdb has {gdbs.inlined}"))
    ours_file = PurePath(ours["file"]).name if ours["file"] else None
    gdbs_file = PurePath(gdbs.file).name if gdbs.file and gdbs.line else None
    # Line 0 is the debug information's word for "no line", which gdb passes on.
    if (ours_file, ours["line"] or None) != (gdbs_file, gdbs.line or None) and not _is_last_row(ours):
        told.append(Difference(f"{ours_file}:{ours['line']}, gdb has {gdbs_file}:{gdbs.line}", line=True))
    return told


def _are_aliases(ours: dict[str, Any], other: str | None) -> bool:
    """Whether the module's symbol table has both names at one address: either is right."""
    if ours["module"] is None or ours["inlined"]:
        return False
    places = [set(elf_facts.addresses(ours["module"], name)) for name in (ours["function"], other) if name]
    return len(places) == 2 and bool(places[0] & places[1])


def _is_last_row(ours: dict[str, Any]) -> bool:
    """Whether our line is that of the last line table row at or before the pc, as addr2line has it.

    Of several rows at one address gdb takes the last that is a statement, although a later row covers the instruction.
    """
    if ours["module"] is None or ours["offset"] is None:
        return False
    lines = {
        elf_facts.line_at(ours["module"], place + ours["offset"])
        for place in elf_facts.addresses(ours["module"], ours["function"])
    }
    return (PurePath(ours["file"] or "").name, ours["line"]) in lines


def argument_differences(
    ours: dict[str, Any], gdbs: Frame, normal: Callable[[str], str] | None = None
) -> list[Difference]:
    """How the arguments differ; by name, since gdb reverses those of inlined functions.

    A value that gdb has and we have not is a difference only when gdb could know it without the caller's call
    site entry, which cannot be seen here: so it is told, and the caller judges.
    """
    normal = normal or normal_value
    told = []
    # The values of a parameter pack share a name; gdb has them in either order.
    found = sorted(ours["arguments"], key=lambda each: (each["name"], normal(each["value"] or "")))
    expected = sorted(gdbs.arguments, key=lambda each: (each.name, normal(each.value or "")))
    names = ([one["name"] for one in found], [argument.name for argument in expected])
    if names[1] == sorted(names[0] * 2):
        # gdb reads the parameters of gcc's link-time constructors twice: with a value and as optimized out.
        expected = [pair[pair[0].unavailable] for pair in zip(expected[::2], expected[1::2], strict=True)]
    elif names[0] != names[1]:
        return [Difference(f"arguments {names[0]}, gdb has {names[1]}")]
    for one, argument in zip(found, expected, strict=True):
        ours_value = None if one["value"] is None else normal(one["value"])
        gdbs_value = None if argument.unavailable else normal(argument.value or "")
        if ours_value != gdbs_value:
            text = f"{argument.name} = {one['value']} ({one['why']}), gdb has {argument.value}"
            told.append(Difference(text, ours=one, gdbs=argument))
        if one["value"] is None and not one["why"]:
            told.append(Difference(f"{argument.name} has neither a value nor a reason"))
    return told


def normal_value(text: str) -> str:
    """A value without what differs from run to run: addresses of memory, and the symbols at them."""
    return re.sub(r"0x[0-9a-f]{5,}(?: <[^<>]*>)?", "0x…", text)


def same_function(ours: str | None, gdbs: str | None) -> bool:
    """Whether two names are the same function's, as far as names can tell."""
    if ours is None or gdbs is None:
        return ours is gdbs
    one, other = _bare(ours), _bare(gdbs)
    # gdb gives the call operator of a lambda no scope.
    return one == other or (other.startswith("operator()") and one.endswith("::" + other)) or _are_lambdas(ours, gdbs)


def _are_lambdas(ours: str, gdbs: str) -> bool:
    """Whether both are call operators with the same template arguments, of which gdb gives no scope or the same."""
    found = [re.search(r"(?:^|(?:\{lambda\}|'lambda'[^:]*|\$_\d+)::)(operator\(\).*)", name) for name in (ours, gdbs)]
    return all(found) and len({_bare(match[1]).replace(">>", "> >") for match in found if match}) == 1


def _bare(name: str) -> str:
    """A name without parameters, return type, clone suffix, blanks in template arguments and libc's internal
    prefixes.
    """
    name = re.sub(r"\(anonymous( namespace)?\)", "{anonymous}", name)
    name = re.sub(r"(\.(constprop|isra|part|cold|lto_priv|llvm)(\.\d+)*)+$|\s*\[clone[^]]*\]", "", name)
    name = re.sub(r"\[abi:\w+\]", "", name)
    name = _without_parameters(name)
    name = re.sub(r"\s*([<>,]|(?<!>)[&*])\s*", r"\1", name)
    head, operator, symbol = name.partition("operator")
    name = _without_return_type(head) + operator + symbol
    return re.sub(r"^(__GI_|__libc_|__new_|__)+", "", name)


def _without_return_type(name: str) -> str:
    """`int& scope::f<char *>` → `scope::f<char *>`: what follows the last blank outside of <>."""
    depth = 0
    for place in range(len(name) - 1, -1, -1):
        depth += (name[place] in ">}") - (name[place] in "<{")
        if name[place] == " " and depth == 0:
            return name[place + 1 :]
    return name


def _without_parameters(name: str) -> str:
    """`scope::f<int (*)(char)>(long) const` → `scope::f<int (*)(char)>`: up to the first parenthesis outside of <>."""
    depth = 0
    for place, character in enumerate(name):
        if character in "<{" and not name[:place].endswith("operator"):
            depth += 1
        elif character in ">}" and depth:
            depth -= 1
        elif character == "(" and depth == 0 and not name[:place].endswith("operator"):
            return name[:place]
    return name
