"""speedscope's own file format: one sampled profile a thread, frames shared (speedscope's file-format-spec, 0.0.1)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TextIO

from ptap.profile.json_text import json_text

if TYPE_CHECKING:
    from ptap.profile.stack_profile import StackProfile

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"


def write_speedscope(profile: StackProfile, stream: TextIO) -> None:
    """Write the profile as one JSON object."""
    by_thread: dict[int, dict[str, Any]] = {}
    paths: dict[int, list[int]] = {}
    for sample in profile.samples:
        stack = paths.get(sample.stack)
        if stack is None:
            calls = [profile.call_of[each] for each in profile.path(sample.stack)]
            stack = paths[sample.stack] = calls[::-1]
        thread = profile.threads[sample.thread]
        one = by_thread.setdefault(
            sample.thread,
            {
                "type": "sampled",
                "name": json_text(f"{thread.comm} {thread.pid}/{thread.tid}"),
                "unit": "nanoseconds" if profile.weight_unit else "none",
                "startValue": 0,
                "endValue": 0,
                "samples": [],
                "weights": [],
            },
        )
        one["samples"].append(stack)
        one["weights"].append(sample.weight)
        one["endValue"] += sample.weight
    document = {
        "$schema": _SCHEMA,
        "exporter": "ptap",
        "shared": {"frames": [_frame(profile, index) for index in range(len(profile.calls))]},
        "profiles": list(by_thread.values()),
    }
    # Written at once: piece by piece it is made by plain Python, which takes ten times as long.
    stream.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")


def _frame(profile: StackProfile, index: int) -> dict[str, Any]:
    call = profile.calls[index]
    function = profile.functions[call.function]
    frame: dict[str, Any] = {"name": json_text(function.name)}
    if function.file is not None:
        frame["file"] = json_text(function.file)
        if call.line:
            frame["line"] = call.line
        if call.column:
            frame["col"] = call.column
    elif function.module is not None:
        frame["file"] = json_text(function.module)
    return frame
