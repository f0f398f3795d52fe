"""One page of HTML that shows a profile from disk, without a network: flame graph, icicle, sandwich, table.

Owns what of the profile goes into the page, or of two of which the second is compared with the first; how it is drawn
stands in html_page/. Calls of one function are one call in the page, whatever their lines; lines and addresses are
listed by function, the heaviest of each.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from ptap.profile.json_text import json_text
from ptap.profile.stack_profile import ROOT

if TYPE_CHECKING:
    from ptap.profile.profile_diff import ProfileDiff
    from ptap.profile.stack_profile import Function, StackProfile

Int64s = NDArray[np.int64]

_NOTHING: Int64s = np.zeros(0, dtype=np.int64)
_PLACES = 12
"""Lines and addresses shown of one function."""


def write_html(profile: StackProfile, stream: TextIO, *, title: str = "ptap") -> None:
    """Write the page of a profile."""
    identical = range(len(profile.functions))
    encoder = _Encoder([profile], profile.functions, [identical])
    threads = [
        {**encoder.thread([samples]), "pid": who.pid, "tid": who.tid, "comm": json_text(who.comm)}
        for who, samples in ((profile.threads[number], samples) for number, samples in profile.samples.by_thread())
    ]
    cut = sum(weight for stack, weight in zip(*profile.stack_weights(), strict=True) if _is_cut(profile, stack))
    facts = profile.facts + (f", {cut} cut short" if cut else "")
    _write_page(stream, title, {"facts": facts, "functions": encoder.functions(), "threads": threads})


def write_difference_html(diff: ProfileDiff, stream: TextIO, *, title: str = "ptap") -> None:
    """Write the page of two profiles: what has grown is red in it, what has shrunk blue. Threads are by command."""
    encoder = _Encoder(diff.profiles, diff.functions, diff.numbers)
    by_command: dict[str, list[Int64s]] = {}
    renamed: tuple[dict[str, str], dict[str, str]] = diff.renamed_commands, {}
    for side, profile in enumerate(diff.profiles):
        for number, samples in profile.samples.by_thread():
            comm = profile.threads[number].comm
            sides = by_command.setdefault(renamed[side].get(comm, comm), [_NOTHING, _NOTHING])
            sides[side] = np.concatenate((sides[side], samples))
    threads = [{**encoder.thread(sides), "comm": json_text(comm)} for comm, sides in by_command.items()]
    counts = [
        f"{len(profile.samples)} samples {side}"
        for side, profile in zip(("before", "after"), diff.profiles, strict=True)
    ]
    facts = f"{', '.join(counts)}, compared by {'weight' if diff.absolute else 'share'}; red has grown, blue shrunk"
    difference = {"scale": diff.scale, "absolute": diff.absolute}
    data = {"facts": facts, "difference": difference, "functions": encoder.functions(), "threads": threads}
    _write_page(stream, title, data)


def _write_page(stream: TextIO, title: str, data: dict[str, Any]) -> None:
    parts = files("ptap.profile") / "html_page"
    page = (parts / "page.html").read_text(encoding="utf-8")
    scripts = ("tree.js", "difference.js", "view.js")
    fields = {
        "style": (parts / "style.css").read_text(encoding="utf-8"),
        "script": "".join((parts / name).read_text(encoding="utf-8") for name in scripts),
        # `</script>` and `<!--` would end the element or change how it is read (HTML, "Restrictions for contents of
        # script elements").
        "data": json.dumps(data, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c"),
        "title": escape(json_text(title)),
    }
    before, *rest = page.split("{{")
    stream.write(before)
    for part in rest:
        name, after = part.split("}}", 1)
        stream.write(fields[name] + after)


def _is_cut(profile: StackProfile, stack: int) -> bool:
    *_, outermost = profile.path(stack)
    return profile.function_of(outermost).name.startswith("[cut short")


@dataclass(slots=True)
class _Shown:
    """A function as the page has it; code that was inlined is apart from what was called."""

    number: int
    own_by_line: Counter[int] = field(default_factory=Counter)
    own_by_address: Counter[int] = field(default_factory=Counter)


class _Encoder:
    """Encodes what several profiles hold; `numbers` say which of `functions` each of a profile's own is."""

    def __init__(
        self, profiles: Sequence[StackProfile], functions: Sequence[Function], numbers: Sequence[Sequence[int]]
    ) -> None:
        self._profiles = profiles
        self._functions = functions
        self._numbers = numbers
        self._shown: dict[tuple[int, bool], _Shown] = {}

    def functions(self) -> list[dict[str, Any]]:
        """Those that `thread` met, by their numbers."""
        return [self._function(*key, shown) for key, shown in self._shown.items()]

    def _function(self, index: int, inlined: bool, shown: _Shown) -> dict[str, Any]:
        of = self._functions[index]
        lines, addresses = shown.own_by_line.most_common(_PLACES), shown.own_by_address.most_common(_PLACES)
        return {
            "name": json_text(of.name),
            "space": of.space,
            "module": None if of.module is None else json_text(of.module),
            "buildId": of.build_id,
            "file": None if of.file is None else json_text(of.file),
            "inlined": inlined,
            "lines": [[line, weight] for line, weight in lines],
            "addresses": [[f"{address:#x}", weight] for address, weight in addresses],
        }

    def _shown_at(self, side: int, stack: int) -> _Shown:
        profile = self._profiles[side]
        call = profile.call_of[stack]
        key = self._numbers[side][profile.calls.functions[call]], bool(profile.calls.inlined[call])
        found = self._shown.get(key)
        if found is None:
            found = self._shown[key] = _Shown(len(self._shown))
        return found

    def thread(self, sides: Sequence[Int64s]) -> dict[str, Any]:
        """The calls of samples, some of each profile. Lines and addresses are those of the last one."""
        root = _Node(len(sides))
        for side, samples in enumerate(sides):
            self._add(root, side, samples, with_places=side == len(sides) - 1)
        nodes, count = _packed(root)
        weight = sum(self._profiles[-1].samples.weights[sides[-1]].tolist())
        return {"weight": weight, "count": count, "nodes": nodes}

    def _add(self, root: _Node, side: int, samples: Int64s, *, with_places: bool) -> None:
        profile = self._profiles[side]
        weights: Counter[int] = Counter()
        columns = profile.samples
        for stack, weight in zip(columns.stacks[samples].tolist(), columns.weights[samples].tolist(), strict=True):
            weights[stack] += weight
        nodes_of = {ROOT: root}
        for stack, weight in weights.items():
            missing = []
            at = stack
            while at not in nodes_of:  # a call that many stacks share is looked at once
                missing.append(at)
                at = int(profile.parents[at])
            node = nodes_of[at]
            for each in reversed(missing):
                number = self._shown_at(side, each).number
                found = node.children.get(number)
                if found is None:
                    found = node.children[number] = _Node(len(root.own))
                node = nodes_of[each] = found
            node.own[side] += weight
            if with_places:
                call, shown = profile.call_of[stack], self._shown_at(side, stack)
                line, address = int(profile.calls.lines[call]), int(profile.calls.addresses[call])
                if line:
                    shown.own_by_line[line] += weight
                if address:
                    shown.own_by_address[address] += weight


class _Node:
    __slots__ = ("children", "own")

    def __init__(self, sides: int) -> None:
        self.own = [0] * sides
        self.children: dict[int, _Node] = {}


def _packed(root: _Node) -> tuple[str, int]:
    """The nodes below the root in depth-first order, and how many they are.

    Of each these numbers: by how much its depth is less than one more than the depth of the node before, its function,
    its own weight in each profile; seven bits a byte, the lowest first, the eighth bit set where more follow; deflated,
    in base 64.
    """
    data = bytearray()
    count, previous = 0, 0
    pending = [(number, child, 1) for number, child in reversed(root.children.items())]
    while pending:
        number, node, depth = pending.pop()
        for value in (previous + 1 - depth, number, *node.own):
            while value > 127:
                data.append(value & 127 | 128)
                value >>= 7
            data.append(value)
        count, previous = count + 1, depth
        pending += [(child_number, child, depth + 1) for child_number, child in reversed(node.children.items())]
    return base64.b64encode(zlib.compress(bytes(data), 9)).decode("ascii"), count
