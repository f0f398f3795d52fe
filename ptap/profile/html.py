"""One page of HTML that shows a profile from disk, without a network: flame graph, icicle, sandwich, table.

Owns what of the profile goes into the page; how it is drawn stands in html_page/. Calls of one function are one call
in the page, whatever their lines; lines and addresses are listed by function, the heaviest of each.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TextIO

from ptap.profile.json_text import json_text
from ptap.profile.stack_profile import ROOT

if TYPE_CHECKING:
    from ptap.profile.stack_profile import StackProfile, StackSample

_PLACES = 12
"""Lines and addresses shown of one function."""


def write_html(profile: StackProfile, stream: TextIO, *, title: str = "ptap") -> None:
    """Write the page."""
    parts = files("ptap.profile") / "html_page"
    page = (parts / "page.html").read_text(encoding="utf-8")
    fields = {
        "style": (parts / "style.css").read_text(encoding="utf-8"),
        "script": "".join((parts / name).read_text(encoding="utf-8") for name in ("tree.js", "view.js")),
        "data": _Encoder(profile).text(),
        "title": escape(json_text(title)),
    }
    before, *rest = page.split("{{")
    stream.write(before)
    for part in rest:
        name, after = part.split("}}", 1)
        stream.write(fields[name] + after)


@dataclass(slots=True)
class _Shown:
    """A function as the page has it; code that was inlined is apart from what was called."""

    number: int
    own_by_line: Counter[int] = field(default_factory=Counter)
    own_by_address: Counter[int] = field(default_factory=Counter)


class _Encoder:
    def __init__(self, profile: StackProfile) -> None:
        self._profile = profile
        self._shown: dict[tuple[int, bool], _Shown] = {}

    def text(self) -> str:
        """The page's data as JSON that may stand in an element of HTML."""
        profile = self._profile
        by_thread: dict[int, list[StackSample]] = {}
        for sample in profile.samples:
            by_thread.setdefault(sample.thread, []).append(sample)
        threads = [self._thread(number, samples) for number, samples in by_thread.items()]
        cut = sum(s.weight for s in profile.samples if self._is_cut(s.stack))
        facts = profile.facts + (f", {cut} cut short" if cut else "")
        functions = [self._function(*key, shown) for key, shown in self._shown.items()]
        data = {"facts": facts, "functions": functions, "threads": threads}
        # `</script>` and `<!--` would end the element or change how it is read (HTML, "Restrictions for contents of
        # script elements").
        return json.dumps(data, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")

    def _is_cut(self, stack: int) -> bool:
        *_, outermost = self._profile.path(stack)
        return self._profile.function_of(outermost).name.startswith("[cut short")

    def _function(self, index: int, inlined: bool, shown: _Shown) -> dict[str, Any]:
        of = self._profile.functions[index]
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

    def _shown_at(self, stack: int) -> _Shown:
        call = self._profile.calls[self._profile.call_of[stack]]
        key = call.function, call.inlined
        found = self._shown.get(key)
        if found is None:
            found = self._shown[key] = _Shown(len(self._shown))
        return found

    def _thread(self, number: int, samples: list[StackSample]) -> dict[str, Any]:
        who = self._profile.threads[number]
        weights: Counter[int] = Counter()
        for sample in samples:
            weights[sample.stack] += sample.weight
        root = _Node()
        nodes_of = {ROOT: root}
        for stack, weight in weights.items():
            missing = []
            at = stack
            while at not in nodes_of:  # a call that many stacks share is looked at once
                missing.append(at)
                at = self._profile.parents[at]
            node = nodes_of[at]
            for each in reversed(missing):
                node = nodes_of[each] = node.children.setdefault(self._shown_at(each).number, _Node())
            node.own += weight
            call, shown = self._profile.calls[self._profile.call_of[stack]], self._shown_at(stack)
            if call.line:
                shown.own_by_line[call.line] += weight
            if call.address:
                shown.own_by_address[call.address] += weight
        nodes, count = _packed(root)
        return {
            "pid": who.pid,
            "tid": who.tid,
            "comm": json_text(who.comm),
            "weight": sum(weights.values()),
            "count": count,
            "nodes": nodes,
        }


class _Node:
    __slots__ = ("children", "own")

    def __init__(self) -> None:
        self.own = 0
        self.children: dict[int, _Node] = {}


def _packed(root: _Node) -> tuple[str, int]:
    """The nodes below the root in depth-first order, and how many they are.

    Of each three numbers: by how much its depth is less than one more than the depth of the node before, its function,
    its own weight; seven bits a byte, the lowest first, the eighth bit set where more follow; deflated, in base 64.
    """
    data = bytearray()
    count, previous = 0, 0
    pending = [(number, child, 1) for number, child in reversed(root.children.items())]
    while pending:
        number, node, depth = pending.pop()
        for value in (previous + 1 - depth, number, node.own):
            while value > 127:
                data.append(value & 127 | 128)
                value >>= 7
            data.append(value)
        count, previous = count + 1, depth
        pending += [(child_number, child, depth + 1) for child_number, child in reversed(node.children.items())]
    return base64.b64encode(zlib.compress(bytes(data), 9)).decode("ascii"), count
