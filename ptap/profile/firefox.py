"""The Firefox Profiler's processed profile format, version 47: a thread each with its tables, kernel and user apart.

Its types and versions: src/types/profile and docs-developer/CHANGELOG-formats.md of firefox-devtools/profiler. The
viewer brings older versions up to its own when it loads them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from ptap.profile.json_text import json_text
from ptap.profile.stack_profile import ROOT, Thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptap.profile.stack_profile import StackProfile

_VERSION, _GECKO_VERSION = 47, 27
_CATEGORIES = (("Other", "grey"), ("User", "yellow"), ("Kernel", "orange"))
_CATEGORY_OF = {"user": 1, "kernel": 2}
_LIBRARY_RESOURCE = 1
"""resourceTypes.library (src/profile-logic/data-structures)."""


def write_firefox(profile: StackProfile, stream: TextIO, *, product: str = "ptap") -> None:
    """Write the profile as one JSON object. Times are from the first sample on."""
    begin = min(profile.samples.times.tolist(), default=0)
    libraries = _Libraries()
    threads = [
        _Thread(profile, profile.threads[number], libraries).table(chosen, begin)
        for number, chosen in profile.samples.by_thread()
    ]
    if not threads:  # the viewer does not open a profile without any
        nothing = np.zeros(0, dtype=np.int64)
        threads.append(_Thread(profile, Thread(0, 0, product), libraries).table(nothing, begin))
    document = {
        "meta": {
            "version": _GECKO_VERSION,
            "preprocessedProfileVersion": _VERSION,
            "product": product,
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
    # Written at once: piece by piece it is made by plain Python, which takes ten times as long.
    stream.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")


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


class _Thread:
    """One thread's tables; only what its samples use is in them."""

    def __init__(self, profile: StackProfile, who: Thread, libraries: _Libraries) -> None:
        self._profile = profile
        self._parents, self._call_of = profile.parents.tolist(), profile.call_of.tolist()
        calls = profile.calls
        self._inlined = calls.inlined.tolist()
        self._lines = [*zip(*(each.tolist() for each in (calls.functions, calls.lines, calls.columns)), strict=True)]
        self._who = who
        self._libraries = libraries
        self._strings: dict[str, int] = {}
        self._functions: dict[int, int] = {}
        self._frames: dict[tuple[int, int], int] = {}
        self._stacks: dict[int, int] = {}
        self._resources: dict[int, int] = {}
        self._function_rows: list[tuple[int, int, int | None]] = []
        self._frame_rows: list[tuple[int, int, int, int, int | None, int | None]] = []
        self._stack_rows: list[tuple[int, int | None, int]] = []
        self._resource_rows: list[tuple[int, int]] = []

    def table(self, chosen: NDArray[np.int64], begin: int) -> dict[str, Any]:
        """The thread as the format has it, its samples (those `chosen`) by time."""
        samples = self._profile.samples
        chosen = chosen[np.argsort(samples.times[chosen], kind="stable")]
        stacks = [self._stack(stack) for stack in samples.stacks[chosen].tolist()]
        times = [(time - begin) / 1e6 for time in samples.times[chosen].tolist()]
        weights = samples.weights[chosen].tolist()
        who, timed = self._who, bool(self._profile.weight_unit)
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
                "stack": stacks,
                "time": times,
                "weight": [weight / 1e6 for weight in weights] if timed else weights,
                "weightType": "tracing-ms" if timed else "samples",
            },
            "markers": _columns((), "data", "name", "startTime", "endTime", "phase", "category"),
            "stackTable": self._stack_table(),
            "frameTable": self._frame_table(),
            "funcTable": self._function_table(),
            "resourceTable": {
                **_columns(self._resource_rows, "lib", "name"),
                "host": [None] * len(self._resource_rows),
                "type": [_LIBRARY_RESOURCE] * len(self._resource_rows),
            },
            "nativeSymbols": _columns((), "libIndex", "address", "name", "functionSize"),
            "stringArray": list(self._strings),
        }

    def _stack(self, stack: int) -> int | None:
        if stack == ROOT:
            return None
        missing = []
        while stack != ROOT and stack not in self._stacks:
            missing.append(stack)
            stack = self._parents[stack]
        prefix = None if stack == ROOT else self._stacks[stack]
        frames, call_of = self._frames, self._call_of
        for each in reversed(missing):
            call = call_of[each]
            depth = self._inline_depth(each, call)
            frame = frames.get((call, depth))
            if frame is None:
                frame = self._frame(call, depth)
            self._stacks[each] = number = len(self._stack_rows)
            self._stack_rows.append((frame, prefix, self._frame_rows[frame][2]))
            prefix = number
        return prefix

    def _inline_depth(self, stack: int, call: int) -> int:
        """How many calls around the innermost one of a stack, `call` included, are inlined."""
        inlined, call_of, parents = self._inlined, self._call_of, self._parents
        depth = 0
        while inlined[call]:
            depth, stack = depth + 1, parents[stack]
            if stack == ROOT:
                break
            call = call_of[stack]
        return depth

    def _frame(self, call_index: int, depth: int) -> int:
        """A new frame."""
        function, line, column = self._lines[call_index]
        category = _CATEGORY_OF.get(self._profile.functions[function].space, 0)
        row = (self._function(function), depth, category, -1, line or None, column or None)
        number = self._frames[call_index, depth] = len(self._frame_rows)
        self._frame_rows.append(row)
        return number

    def _function(self, index: int) -> int:
        found = self._functions.get(index)
        if found is None:
            function = self._profile.functions[index]
            resource = -1 if function.module is None else self._resource(function.module, function.build_id)
            file = None if function.file is None else self._string(function.file)
            found = self._functions[index] = len(self._function_rows)
            self._function_rows.append((self._string(function.name), resource, file))
        return found

    def _resource(self, module: str, build_id: str | None) -> int:
        library = self._libraries.index(module, build_id)
        found = self._resources.get(library)
        if found is None:
            found = self._resources[library] = len(self._resource_rows)
            self._resource_rows.append((library, self._string(module.rsplit("/", 1)[-1])))
        return found

    def _string(self, text: str) -> int:
        return self._strings.setdefault(json_text(text), len(self._strings))

    def _stack_table(self) -> dict[str, Any]:
        table = _columns(self._stack_rows, "frame", "prefix", "category")
        return {**table, "subcategory": [0] * len(self._stack_rows)}

    def _frame_table(self) -> dict[str, Any]:
        count = len(self._frame_rows)
        return {
            **_columns(self._frame_rows, "func", "inlineDepth", "category", "address", "line", "column"),
            "subcategory": [0] * count,
            "nativeSymbol": [None] * count,
            "innerWindowID": [0] * count,
            "implementation": [None] * count,
        }

    def _function_table(self) -> dict[str, Any]:
        count = len(self._function_rows)
        return {
            **_columns(self._function_rows, "name", "resource", "fileName"),
            "isJS": [False] * count,
            "relevantForJS": [False] * count,
            "lineNumber": [None] * count,
            "columnNumber": [None] * count,
        }


def _columns(rows: Any, *names: str) -> dict[str, Any]:
    """Rows as a table of the format: a list a column, and the length."""
    return {"length": len(rows), **{name: [row[at] for row in rows] for at, name in enumerate(names)}}
