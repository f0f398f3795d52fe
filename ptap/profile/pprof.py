"""pprof's profile.proto, packed by gzip, as `go tool pprof` and other viewers open it.

A location is an address with the calls that were inlined there, innermost first; threads are labels of samples.
"""

from __future__ import annotations

import gzip
from collections import Counter
from typing import TYPE_CHECKING, Any, BinaryIO

from ptap.profile.json_text import json_text
from ptap.profile.pprof_schema import profile_message
from ptap.profile.stack_profile import ROOT

if TYPE_CHECKING:
    from ptap.profile.stack_profile import StackProfile

_COUNTS = ("samples", "weight")


_LEVEL = 6
"""Of gzip: its best takes three times as long for 1% less."""


def write_pprof(profile: StackProfile, stream: BinaryIO) -> None:
    """Write the profile's message."""
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=_LEVEL, mtime=0) as packed:
        packed.write(_Encoder(profile).message().SerializeToString())


class _Encoder:
    def __init__(self, profile: StackProfile) -> None:
        self._profile = profile
        self._parents, self._call_of = profile.parents.tolist(), profile.call_of.tolist()
        calls = profile.calls
        self._inlined, self._addresses = calls.inlined.tolist(), calls.addresses.tolist()
        self._lines = [*zip(*(each.tolist() for each in (calls.functions, calls.lines, calls.columns)), strict=True)]
        self._message: Any = profile_message()()
        self._strings: dict[str, int] = {"": 0}
        self._mappings: dict[tuple[str, str | None], int] = {}
        self._locations: dict[tuple[int, ...], int] = {}
        self._steps: dict[int, tuple[int, int]] = {}
        """By stack: the location of its innermost calls, and the stack that they were called from."""

    def message(self) -> Any:
        """The whole message; locations and functions of all calls, samples of equal stack and thread added up."""
        message, profile = self._message, self._profile
        kinds = {"samples": "count", "time": "nanoseconds"} if profile.weight_unit else dict.fromkeys(_COUNTS, "count")
        for kind, unit in kinds.items():
            message.sample_type.add(type=self._string(kind), unit=self._string(unit))
        message.default_sample_type = self._string(list(kinds)[-1])
        for number, function in enumerate(profile.functions, 1):
            name = self._string(function.name)
            message.function.add(id=number, name=name, system_name=name, filename=self._string(function.file or ""))
        counts: Counter[tuple[int, int]] = Counter()
        weights: Counter[tuple[int, int]] = Counter()
        samples = profile.samples
        columns = (each.tolist() for each in (samples.stacks, samples.threads, samples.weights))
        for stack, thread, weight in zip(*columns, strict=True):
            counts[stack, thread] += 1
            weights[stack, thread] += weight
        labels: dict[int, Any] = {}
        for (stack, thread), weight in weights.items():
            one = message.sample.add(location_id=self._path(stack), value=[counts[stack, thread], weight])
            if thread in labels:
                one.label.extend(labels[thread])
                continue
            who = profile.threads[thread]
            one.label.add(key=self._string("pid"), num=who.pid)
            one.label.add(key=self._string("tid"), num=who.tid)
            one.label.add(key=self._string("comm"), str=self._string(who.comm))
            labels[thread] = list(one.label)
        times = samples.times.tolist()
        if times:
            message.time_nanos, message.duration_nanos = min(times), max(times) - min(times)
        message.string_table.extend(self._strings)
        return message

    def _path(self, stack: int) -> list[int]:
        locations = []
        steps = self._steps
        while stack != ROOT:
            step = steps.get(stack)
            if step is None:
                step = steps[stack] = self._step(stack)
            locations.append(step[0])
            stack = step[1]
        return locations

    def _step(self, stack: int) -> tuple[int, int]:
        calls: list[int] = []
        while stack != ROOT:  # which comes first where they are inlined into what is not in the trace
            calls.append(self._call_of[stack])
            stack = self._parents[stack]
            if not self._inlined[calls[-1]]:
                break
        return self._location(tuple(calls)), stack

    def _location(self, calls: tuple[int, ...]) -> int:
        """Of calls at one address, innermost first."""
        found = self._locations.get(calls)
        if found is not None:
            return found
        number = self._locations[calls] = len(self._locations) + 1
        location = self._message.location.add(id=number, address=self._addresses[calls[-1]])
        location.mapping_id = self._mapping(self._lines[calls[-1]][0])
        for each in calls:
            function, line, column = self._lines[each]
            location.line.add(function_id=function + 1, line=line, column=column)
        return number

    def _mapping(self, function: int) -> int:
        """Of the module that a function lies in; 0 where none is known."""
        of = self._profile.functions[function]
        if of.module is None:
            return 0
        found = self._mappings.get((of.module, of.build_id))
        if found is None:
            found = self._mappings[of.module, of.build_id] = len(self._mappings) + 1
            self._message.mapping.add(
                id=found,
                filename=self._string(of.module),
                build_id=self._string(of.build_id or ""),
                has_functions=True,
                has_filenames=True,
                has_line_numbers=True,
                has_inline_frames=True,
            )
        return found

    def _string(self, text: str) -> int:
        return self._strings.setdefault(json_text(text), len(self._strings))
