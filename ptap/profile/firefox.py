"""The Firefox Profiler's processed profile format, version 47: a thread each with its tables, kernel and user apart.

Its types and versions: src/types/profile and docs-developer/CHANGELOG-formats.md of firefox-devtools/profiler. The
viewer brings older versions up to its own when it loads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from cfi_tables.distinct_values import numbered_as_met
from ptap.profile.inline_levels import inline_levels
from ptap.profile.json_text import json_text
from ptap.profile.reached_stacks import ReachedStacks
from ptap.profile.stack_profile import ROOT, Thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ptap.profile.stack_profile import Function, StackProfile

_VERSION, _GECKO_VERSION = 47, 27
_CATEGORIES = (("Other", "grey"), ("User", "yellow"), ("Kernel", "orange"))
_CATEGORY_OF = {"user": 1, "kernel": 2}
_LIBRARY_RESOURCE = 1
"""resourceTypes.library (src/profile-logic/data-structures)."""


def write_firefox(profile: StackProfile, stream: TextIO, *, product: str = "ptap") -> None:
    """Write the profile as one JSON object. Times are from the first sample on."""
    import orjson

    begin = int(profile.samples.times.min()) if len(profile.samples) else 0
    libraries = _Libraries()
    shared = _Shared(profile)
    threads = [
        _Thread(shared, profile.threads[number], libraries).table(chosen, begin)
        for number, chosen in profile.samples.by_thread()
    ]
    if not threads:  # the viewer does not open a profile without any
        nothing = np.zeros(0, dtype=np.int64)
        threads.append(_Thread(shared, Thread(0, 0, product), libraries).table(nothing, begin))
    document = {
        "meta": {
            "version": _GECKO_VERSION,
            "preprocessedProfileVersion": _VERSION,
            "product": json_text(product),
            "interval": 1,
            "startTime": 0,
            "processType": 0,
            "stackwalk": 1,
            "debug": False,
            "symbolicated": True,
            "usesOnlyOneStackType": True,
            "doesNotUseFrameImplementation": True,
            "sourceCodeIsNotOnSearchfox": True,
            "markerSchema": [],
            "categories": [{"name": name, "color": color, "subcategories": ["Other"]} for name, color in _CATEGORIES],
            "extensions": {"id": [], "name": [], "baseURL": [], "length": 0},
        },
        "libs": libraries.rows,
        "pages": [],
        "threads": threads,
    }
    # Arrays without a Python object for each number: orjson takes a twentieth of the time of json.
    stream.write(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE).decode())


class _Libraries:
    """The modules of the whole profile, each once."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._index: dict[tuple[str, str | None], int] = {}

    def index(self, module: str, build_id: str | None) -> int:
        found = self._index.get((module, build_id))
        if found is None:
            found = self._index[module, build_id] = len(self.rows)
            name = json_text(module.rsplit("/", 1)[-1])
            self.rows.append(
                {
                    "name": name,
                    "path": json_text(module),
                    "debugName": name,
                    "debugPath": json_text(module),
                    "breakpadId": breakpad_id(build_id),
                    "codeId": build_id,
                    "arch": None,
                }
            )
        return found


def breakpad_id(build_id: str | None) -> str:
    """A build-id (hexadecimal) as symbol servers name it: its first 16 bytes as a GUID, and an age of 0.

    The first three fields are little-endian there (Breakpad's MDCVInfoELF).
    """
    if not build_id:
        return ""
    raw = bytes.fromhex(build_id)[:16].ljust(16, b"\0")
    return (raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]).hex().upper() + "0"


class _Shared:
    """What all threads need of the calls of a profile."""

    def __init__(self, profile: StackProfile) -> None:
        self.profile = profile
        self.reached = ReachedStacks(profile.parents)
        self.depths = np.zeros(len(profile.parents), dtype=np.int32)
        """By stack: how many calls around the innermost one, itself included, are inlined."""
        for depth, level in enumerate(inline_levels(profile), 1):
            self.depths[level] = depth
        self.levels = int(self.depths.max(initial=0)) + 1
        """Above all of them."""
        self.numbers = np.full(len(profile.parents) + 1, ROOT, dtype=np.int32)
        """Room for the numbers that stacks have in a thread's table; the last one is that of ROOT."""
        categories = [_CATEGORY_OF.get(function.space, 0) for function in profile.functions]
        self.categories = np.array(categories, dtype=np.int8)
        """By function."""


class _Thread:
    """One thread's tables; only what its samples use is in them. Columns of numbers are arrays."""

    def __init__(self, shared: _Shared, who: Thread, libraries: _Libraries) -> None:
        self._shared = shared
        self._profile = shared.profile
        self._who = who
        self._libraries = libraries
        self._strings: dict[str, int] = {}
        self._resources: dict[int, int] = {}
        self._resource_rows: list[tuple[int, int]] = []

    def table(self, chosen: NDArray[np.int64], begin: int) -> dict[str, Any]:
        """The thread as the format has it, its samples (those `chosen`) by time."""
        samples = self._profile.samples
        chosen = chosen[np.argsort(samples.times[chosen], kind="stable")]
        weights = samples.weights[chosen]
        who, timed = self._who, bool(self._profile.weight_unit)
        tables, leaves = self._tables(samples.stacks[chosen])
        return {
            "name": json_text(who.comm),
            "isMainThread": who.pid == who.tid,
            "processType": "default",
            "processName": json_text(who.comm),
            "processStartupTime": 0,
            "processShutdownTime": None,
            "registerTime": 0,
            "unregisterTime": None,
            "pausedRanges": [],
            "pid": str(who.pid),
            "tid": who.tid,
            "samples": {
                "length": len(chosen),
                "stack": leaves,
                "time": (samples.times[chosen] - np.uint64(begin)) / 1e6,
                "weight": weights / 1e6 if timed else weights,
                "weightType": "tracing-ms" if timed else "samples",
            },
            "markers": _columns((), "data", "name", "startTime", "endTime", "phase", "category"),
            **tables,
            "resourceTable": {
                **_columns(self._resource_rows, "lib", "name"),
                "host": [None] * len(self._resource_rows),
                "type": [_LIBRARY_RESOURCE] * len(self._resource_rows),
            },
            "nativeSymbols": _columns((), "libIndex", "address", "name", "functionSize"),
            "stringArray": list(self._strings),
        }

    def _tables(self, leaves: NDArray[np.int32]) -> tuple[dict[str, Any], Any]:
        """The tables of stacks, frames and functions that `leaves` need, and the leaves as numbers of the first one."""
        profile, shared = self._profile, self._shared
        stacks = shared.reached.of(leaves)
        numbers = shared.numbers
        numbers[stacks] = np.arange(len(stacks), dtype=np.int32)
        keys = profile.call_of[stacks].astype(np.int64) * shared.levels + shared.depths[stacks]
        frames, frame_of = numbered_as_met(keys)
        calls, depths = np.divmod(frames, shared.levels)
        functions, function_of = numbered_as_met(profile.calls.functions[calls])
        categories = self._shared.categories[functions][function_of]
        tables = {
            "stackTable": {
                "length": len(stacks),
                "frame": frame_of,
                "prefix": _with_none(numbers[profile.parents[stacks]]),
                "category": categories[frame_of],
                "subcategory": _constant(0, len(stacks)),
            },
            "frameTable": {
                "length": len(frames),
                "func": function_of,
                "inlineDepth": depths,
                "category": categories,
                "address": _constant(-1, len(frames)),
                "line": _with_none(profile.calls.lines[calls], 0),
                "column": _with_none(profile.calls.columns[calls], 0),
                "subcategory": _constant(0, len(frames)),
                "nativeSymbol": [None] * len(frames),
                "innerWindowID": _constant(0, len(frames)),
                "implementation": [None] * len(frames),
            },
            "funcTable": self._function_table([profile.functions[number] for number in functions.tolist()]),
        }
        return tables, _with_none(numbers[leaves])

    def _function_table(self, functions: Sequence[Function]) -> dict[str, Any]:
        count = len(functions)
        return {
            **_columns([self._function(each) for each in functions], "name", "resource", "fileName"),
            "isJS": [False] * count,
            "relevantForJS": [False] * count,
            "lineNumber": [None] * count,
            "columnNumber": [None] * count,
        }

    def _function(self, function: Function) -> tuple[int, int, int | None]:
        resource = -1 if function.module is None else self._resource(function.module, function.build_id)
        file = None if function.file is None else self._string(function.file)
        return self._string(function.name), resource, file

    def _resource(self, module: str, build_id: str | None) -> int:
        library = self._libraries.index(module, build_id)
        found = self._resources.get(library)
        if found is None:
            found = self._resources[library] = len(self._resource_rows)
            self._resource_rows.append((library, self._string(module.rsplit("/", 1)[-1])))
        return found

    def _string(self, text: str) -> int:
        return self._strings.setdefault(json_text(text), len(self._strings))


def _columns(rows: Any, *names: str) -> dict[str, Any]:
    """Rows as a table of the format: a list a column, and the length."""
    return {"length": len(rows), **{name: [row[at] for row in rows] for at, name in enumerate(names)}}


def _constant(value: int, count: int) -> NDArray[np.int8]:
    return np.full(count, value, dtype=np.int8)


def _with_none(values: NDArray[Any], none: int = -1) -> list[int | None]:
    found: list[int | None] = values.tolist()
    for at in np.flatnonzero(values == none).tolist():
        found[at] = None
    return found
