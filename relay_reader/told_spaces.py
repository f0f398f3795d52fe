"""The mappings of processes as a capture of the kernel module tells them, and which of them hold for a hit.

A hit names the mappings that it was walked by, by their generation. Where it had none, those that were told of the same
program of the same process hold, the last ones before it, else the first ones after it. A process that ended before
anybody looked has those of the process that it was forked from, if that is known: it began with the same mappings, and
what tells one program's run from another, where its stack began, is the same, too.
"""

from __future__ import annotations

import base64
import json
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from relay_reader.capture import Event, Mapping, MappingAdded, ProcessExeced, Sample


@dataclass(frozen=True, slots=True)
class ToldSpace:
    """The mappings of one process at one time."""

    time_ns: int
    pid: int
    generation: int
    start_stack: int
    mappings: list[Mapping]


@dataclass(slots=True)
class ToldSpaces:
    """All that was told."""

    images: dict[bytes, bytes] = field(default_factory=dict)
    """What is in no file, by build-id: the vdso."""
    _by_generation: dict[int, ToldSpace] = field(default_factory=dict)
    _by_program: dict[tuple[int, int], list[ToldSpace]] = field(default_factory=dict)
    """(pid, start of the stack) -> in order of time."""
    _by_stack: dict[int, list[ToldSpace]] = field(default_factory=dict)
    _applied: dict[int, int] = field(default_factory=dict)
    """pid -> generation."""

    def add(self, time_ns: int, pid: int, content: bytes) -> None:
        """Take a SPACE record, `content` is what follows its fixed part. Raises ValueError when it is damaged."""
        try:
            told: dict[str, Any] = json.loads(content)
            mappings = [
                Mapping(start, end, offset, path, bytes.fromhex(build_id) if build_id else None)
                for start, end, offset, path, build_id in told["mappings"]
            ]
            space = ToldSpace(time_ns, pid, int(told["generation"]), int(told["start_stack"]), mappings)
            for build_id, image in told["images"].items():
                self.images[bytes.fromhex(build_id)] = base64.b64decode(image, validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"mappings of a process cannot be read: {error}") from None
        self._by_generation[space.generation] = space
        for known in (
            self._by_program.setdefault((pid, space.start_stack), []),
            self._by_stack.setdefault(space.start_stack, []),
        ):
            known.append(space)
            known.sort(key=lambda each: each.time_ns)

    def events_for(self, sample: Sample, comm: str) -> Iterator[Event]:
        """What makes the mappings of the sample's process those that hold for it."""
        space = self._space_of(sample)
        generation = space.generation if space is not None else 0
        if self._applied.get(sample.pid, 0) == generation:
            return
        self._applied[sample.pid] = generation
        yield ProcessExeced(sample.time_ns, sample.pid, comm)
        for mapping in space.mappings if space is not None else ():
            yield MappingAdded(sample.time_ns, sample.pid, mapping)

    def _space_of(self, sample: Sample) -> ToldSpace | None:
        stack = sample.user_stack
        if stack is None:
            return self._by_generation.get(self._applied.get(sample.pid, 0))
        if stack.generation in self._by_generation:
            return self._by_generation[stack.generation]
        known = self._by_program.get((sample.pid, stack.start_stack)) or self._by_stack.get(stack.start_stack)
        if not known:
            return None
        return known[max(bisect_right(known, sample.time_ns, key=lambda each: each.time_ns) - 1, 0)]
