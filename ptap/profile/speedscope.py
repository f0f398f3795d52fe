"""speedscope's own file format: one sampled profile a thread, frames shared (speedscope's file-format-spec, 0.0.1)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TextIO

from ptap.profile.json_text import json_text
from ptap.profile.stack_profile import ROOT

if TYPE_CHECKING:
    from ptap.profile.stack_profile import Function, StackProfile

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"


def write_speedscope(profile: StackProfile, stream: TextIO) -> None:
    """Write the profile as one JSON object."""
    by_thread: dict[int, dict[str, Any]] = {}
    paths: dict[int, list[int]] = {}
    parents, call_of, samples = profile.parents.tolist(), profile.call_of.tolist(), profile.samples
    for number, thread, weight in zip(
        samples.stacks.tolist(), samples.threads.tolist(), samples.weights.tolist(), strict=True
    ):
        stack = paths.get(number)
        if stack is None:
            stack, at = [], number
            while at != ROOT:
                stack.append(call_of[at])
                at = parents[at]
            stack.reverse()
            paths[number] = stack
        who = profile.threads[thread]
        one = by_thread.setdefault(
            thread,
            {
                "type": "sampled",
                "name": json_text(f"{who.comm} {who.pid}/{who.tid}"),
                "unit": "nanoseconds" if profile.weight_unit else "none",
                "startValue": 0,
                "endValue": 0,
                "samples": [],
                "weights": [],
            },
        )
        one["samples"].append(stack)
        one["weights"].append(weight)
        one["endValue"] += weight
    document = {
        "$schema": _SCHEMA,
        "exporter": "ptap",
        "shared": {"frames": _frames(profile)},
        "profiles": list(by_thread.values()),
    }
    # Written at once: piece by piece it is made by plain Python, which takes ten times as long.
    stream.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")


def _frames(profile: StackProfile) -> list[dict[str, Any]]:
    calls = profile.calls
    columns = (each.tolist() for each in (calls.functions, calls.lines, calls.columns))
    return [_frame(profile.functions[function], line, column) for function, line, column in zip(*columns, strict=True)]


def _frame(function: Function, line: int, column: int) -> dict[str, Any]:
    frame: dict[str, Any] = {"name": json_text(function.name)}
    if function.file is not None:
        frame["file"] = json_text(function.file)
        if line:
            frame["line"] = line
        if column:
            frame["col"] = column
    elif function.module is not None:
        frame["file"] = json_text(function.module)
    return frame
