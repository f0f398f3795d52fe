"""speedscope's own file format: one sampled profile a thread, frames shared (speedscope's file-format-spec, 0.0.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from ptap.profile.json_paths import JsonPaths
from ptap.profile.json_text import json_text
from ptap.profile.sample_columns import exact_sum

if TYPE_CHECKING:
    from ptap.profile.stack_profile import Function, StackProfile

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"


def write_speedscope(profile: StackProfile, stream: TextIO) -> None:
    """Write the profile as one JSON object."""
    import orjson

    samples, paths = profile.samples, JsonPaths(profile.parents, profile.call_of)
    profiles = []
    for number, chosen in samples.by_thread():
        who, weights = profile.threads[number], samples.weights[chosen]
        profiles.append(
            {
                "type": "sampled",
                "name": json_text(f"{who.comm} {who.pid}/{who.tid}"),
                "unit": "nanoseconds" if profile.weight_unit else "none",
                "startValue": 0,
                "endValue": orjson.Fragment(str(exact_sum(weights))),  # which may be more than 64 bits
                "samples": orjson.Fragment(paths.of(samples.stacks[chosen])),
                "weights": weights,
            }
        )
    document = {
        "$schema": _SCHEMA,
        "exporter": "ptap",
        "shared": {"frames": _frames(profile)},
        "profiles": profiles,
    }
    stream.write(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE).decode())


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
