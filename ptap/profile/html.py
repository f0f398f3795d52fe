"""One page of HTML that shows a profile from disk, without a network: flame graph, icicle, sandwich, table.

Owns what of the profile goes into the page, or of two of which the second is compared with the first; how it is drawn
stands in html_page/. Calls of one function are one call in the page, whatever their lines; lines and addresses are
listed by function, the heaviest of each.
"""

from __future__ import annotations

import base64
import json
import zlib
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from cfi_tables.distinct_values import first_met
from ptap.profile.json_text import json_text
from ptap.profile.merged_tree import MergedTree, WeighedStacks, weighed_stacks
from ptap.profile.sample_columns import added_up, exact_sum
from ptap.profile.stack_profile import ROOT
from unwind.tree_order import united_marks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ptap.profile.profile_diff import ProfileDiff
    from ptap.profile.stack_profile import Function, StackProfile

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]

_LEVEL = 6
"""Of zlib: its best takes five times as long for 5% less."""
_PLACES = 12
"""Lines and addresses shown of one function."""


def write_html(profile: StackProfile, stream: TextIO, *, title: str = "ptap") -> None:
    """Write the page of a profile."""
    by_thread = profile.samples.by_thread()
    weighed = _weighed(profile, [(group, chosen) for group, (_, chosen) in enumerate(by_thread)])
    encoder = _Encoder([profile], [np.arange(len(profile.functions))], [weighed], len(by_thread))
    whose = (profile.threads[number] for number, _ in by_thread)
    threads = [
        {**tree, "pid": who.pid, "tid": who.tid, "comm": json_text(who.comm)}
        for tree, who in zip(encoder.trees(), whose, strict=True)
    ]
    cut = _weight_cut(profile)
    facts = profile.facts + (f", {cut} cut short" if cut else "")
    _write_page(stream, title, {"facts": facts, "functions": encoder.functions(profile.functions), "threads": threads})


def write_difference_html(diff: ProfileDiff, stream: TextIO, *, title: str = "ptap") -> None:
    """Write the page of two profiles: what has grown is red in it, what has shrunk blue. Threads are by command."""
    commands: dict[str, int] = {}
    renamed: tuple[dict[str, str], dict[str, str]] = diff.renamed_commands, {}
    weighed = []
    for profile, names in zip(diff.profiles, renamed, strict=True):
        comms = [(profile.threads[number].comm, chosen) for number, chosen in profile.samples.by_thread()]
        groups = [(commands.setdefault(names.get(comm, comm), len(commands)), chosen) for comm, chosen in comms]
        weighed.append(_weighed(profile, groups))
    numbers = [np.array(each, dtype=np.int64) for each in diff.numbers]
    encoder = _Encoder(diff.profiles, numbers, weighed, len(commands))
    threads = [{**tree, "comm": json_text(comm)} for tree, comm in zip(encoder.trees(), commands, strict=True)]
    counts = [
        f"{len(profile.samples)} samples {side}"
        for side, profile in zip(("before", "after"), diff.profiles, strict=True)
    ]
    facts = f"{', '.join(counts)}, compared by {'weight' if diff.absolute else 'share'}; red has grown, blue shrunk"
    difference = {"scale": diff.scale, "absolute": diff.absolute}
    functions = encoder.functions(diff.functions)
    data = {"facts": facts, "difference": difference, "functions": functions, "threads": threads}
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


def _weighed(profile: StackProfile, groups: list[tuple[int, Int64s]]) -> WeighedStacks:
    """The stacks of groups of samples, in whose order they are."""
    group_of = np.zeros(len(profile.samples), dtype=np.int32)
    for group, chosen in groups:
        group_of[chosen] = group
    order = np.concatenate([chosen for _, chosen in groups]) if groups else None
    return weighed_stacks(profile, group_of, order)


def _weight_cut(profile: StackProfile) -> int:
    """Of the samples whose stacks are cut short."""
    functions = profile.functions_of()
    marks = np.array([function.name.startswith("[cut short") for function in profile.functions], dtype=np.int64)
    is_cut = united_marks(profile.parents, np.where(profile.parents == ROOT, marks[functions], 0))
    return exact_sum(profile.samples.weights[is_cut[profile.samples.stacks] != 0])


class _Encoder:
    """Encodes stacks of several profiles, which it puts together by group.

    A function as the page has it is one of those that `numbers` tell for each of a profile's own; code that was inlined
    is apart from what was called. Lines and addresses are those of the last profile.
    """

    def __init__(
        self, profiles: Sequence[StackProfile], numbers: list[Int64s], weighed: list[WeighedStacks], groups: int
    ) -> None:
        self._groups = groups
        self._last, self._weighed = profiles[-1], weighed[-1]
        self._tree = tree = MergedTree(sum(len(each.parents) for each in profiles), groups)
        nodes = []
        for profile, of, stacks in zip(profiles, numbers, weighed, strict=True):
            keys = 2 * of[profile.calls.functions] + profile.calls.inlined
            nodes.append(tree.add(profile, keys[profile.call_of].astype(np.int32), stacks))
        self._own = [added_up(each, stacks.weights, len(tree)) for each, stacks in zip(nodes, weighed, strict=True)]
        self._order = order = tree.order()
        # Functions are numbered as the groups bring them, one after the other.
        group_of = np.empty(len(tree), dtype=np.int64)
        group_of[order.nodes] = np.repeat(np.arange(groups), order.sizes[:groups])
        by_group = np.argsort(group_of, kind="stable")
        self._shown = first_met(tree.keys[by_group[by_group >= groups]])
        number_of = np.zeros(int(self._shown.max(initial=-1)) + 1, dtype=np.int64)
        number_of[self._shown] = np.arange(len(self._shown))
        self._numbers = np.where(np.arange(len(tree)) < groups, 0, number_of[tree.keys])
        self._leaves = self._numbers[nodes[-1]]

    def trees(self) -> list[dict[str, Any]]:
        """The tree of each group."""
        order = self._order
        depths, numbers = order.depths[order.nodes], self._numbers[order.nodes]
        own = [each[order.nodes] for each in self._own]
        falls = np.diff(depths, prepend=0) * -1 + 1
        values = np.stack((falls, numbers, *own), axis=1)
        weights = added_up(self._weighed.groups, self._weighed.weights, self._groups).tolist()
        found = []
        sizes = order.sizes[: self._groups]
        for weight, count, end in zip(weights, (sizes - 1).tolist(), np.cumsum(sizes).tolist(), strict=True):
            nodes = _varints(values[end - count : end].reshape(-1))
            packed = base64.b64encode(zlib.compress(nodes, _LEVEL)).decode("ascii")
            found.append({"weight": weight, "count": count, "nodes": packed})
        return found

    def functions(self, functions: Sequence[Function]) -> list[dict[str, Any]]:
        """Those that are shown, by their numbers."""
        calls, call_of = self._last.calls, self._last.call_of[self._weighed.stacks]
        lines, addresses = self._heaviest(calls.lines[call_of]), self._heaviest(calls.addresses[call_of])
        return [
            _function(functions[key >> 1], bool(key & 1), *places)
            for key, *places in zip(self._shown.tolist(), lines, addresses, strict=True)
        ]

    def _heaviest(self, values: NDArray[Any]) -> list[list[tuple[int, int]]]:
        """By function the values that samples in itself have, and their weights, the heaviest first; 0 is none."""
        chosen = np.flatnonzero(values)
        distinct, places = np.unique(values[chosen], return_inverse=True)
        keys, firsts, groups = np.unique(
            self._leaves[chosen] * len(distinct) + places.reshape(-1), return_index=True, return_inverse=True
        )
        weights = added_up(groups.reshape(-1), self._weighed.weights[chosen], len(keys))
        heights = np.unique(weights, return_inverse=True)[1].reshape(-1)
        functions, values = np.divmod(keys, max(len(distinct), 1))
        order = np.lexsort((firsts, -heights, functions))
        begins = np.searchsorted(functions, np.arange(len(self._shown)))
        order = order[np.arange(len(order)) - begins[functions[order]] < _PLACES]
        found: list[list[tuple[int, int]]] = [[] for _ in self._shown]
        columns = functions[order], distinct[values[order]], weights[order]
        for function, value, weight in zip(*(each.tolist() for each in columns), strict=True):
            found[function].append((value, weight))
        return found


def _function(
    of: Function, inlined: bool, lines: list[tuple[int, int]], addresses: list[tuple[int, int]]
) -> dict[str, Any]:
    return {
        "name": json_text(of.name),
        "space": of.space,
        "module": None if of.module is None else json_text(of.module),
        "buildId": of.build_id,
        "file": None if of.file is None else json_text(of.file),
        "inlined": inlined,
        "lines": lines,
        "addresses": [[f"{address:#x}", weight] for address, weight in addresses],
    }


def _varints(values: NDArray[Any]) -> bytes:
    """Numbers, not negative, in seven bits a byte, the lowest first, the eighth bit set where more follow.

    The page has these of each node below a root, depth first: by how much its depth is less than one more than the
    depth of the node before, its function, its own weight in each profile.
    """
    sizes = np.ones(len(values), dtype=np.int64)
    rest = values >> 7
    while rest.any():
        sizes += rest != 0
        rest = rest >> 7
    begins = np.cumsum(sizes) - sizes
    data = np.empty(int(sizes.sum()), dtype=np.uint8)
    for place in range(int(sizes.max(initial=0))):
        longer = sizes > place
        digits = (values[longer] >> 7 * place & 127).astype(np.uint8)
        data[begins[longer] + place] = digits | (sizes[longer] > place + 1).astype(np.uint8) << 7
    return data.tobytes()
