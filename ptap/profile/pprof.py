"""pprof's profile.proto, packed by gzip, as `go tool pprof` and other viewers open it.

A location is an address with the calls that were inlined there, innermost first; threads are labels of samples. Those
two, which are many, are encoded from columns; the rest is a message of the protobuf library, which they are put behind:
parts of a message may follow each other in any order (protobuf.dev, "Encoding", "Last One Wins").
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ptap.profile.json_text import json_text
from ptap.profile.pprof_columns import PprofColumns
from ptap.profile.pprof_schema import profile_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptap.profile.stack_profile import Function, StackProfile, Thread

_COUNTS = ("samples", "weight")
_LEVEL = 4
"""Of gzip: 6, as usual, takes twice as long for 6% less."""


def write_pprof(profile: StackProfile, stream: BinaryIO) -> None:
    """Write the profile's message."""
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=_LEVEL, mtime=0) as packed:
        for part in _Encoder(profile).parts():
            packed.write(part)


class _Encoder:
    def __init__(self, profile: StackProfile) -> None:
        self._profile = profile
        self._message: Any = profile_message()()
        self._strings: dict[str, int] = {"": 0}
        self._mappings: dict[tuple[str, str | None], int] = {}

    def parts(self) -> Iterator[bytes | memoryview]:
        """The whole message in pieces."""
        message, profile = self._message, self._profile
        kinds = {"samples": "count", "time": "nanoseconds"} if profile.weight_unit else dict.fromkeys(_COUNTS, "count")
        for kind, unit in kinds.items():
            message.sample_type.add(type=self._string(kind), unit=self._string(unit))
        message.default_sample_type = self._string(list(kinds)[-1])
        for number, function in enumerate(profile.functions, 1):
            name = self._string(function.name)
            message.function.add(id=number, name=name, system_name=name, filename=self._string(function.file or ""))
        times = profile.samples.times
        if len(times):
            first, last = int(times.min()), int(times.max())
            message.time_nanos, message.duration_nanos = first, last - first
        labels = [self._labels(thread) for thread in profile.threads]
        columns = PprofColumns(profile)
        mappings = np.zeros(len(profile.functions), dtype=np.int32)
        for index in columns.functions().tolist():
            mappings[index] = self._mapping(profile.functions[index])
        message.string_table.extend(self._strings)
        yield message.SerializeToString()
        yield columns.locations(mappings).data
        yield columns.samples(labels).data

    def _labels(self, who: Thread) -> bytes:
        """Those of a thread's samples, encoded."""
        sample = profile_message()().sample.add()
        sample.label.add(key=self._string("pid"), num=who.pid)
        sample.label.add(key=self._string("tid"), num=who.tid)
        sample.label.add(key=self._string("comm"), str=self._string(who.comm))
        encoded: bytes = sample.SerializeToString()
        return encoded

    def _mapping(self, of: Function) -> int:
        """Of the module that a function lies in; 0 where none is known."""
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
