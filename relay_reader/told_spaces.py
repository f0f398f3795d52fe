"""The mappings of processes as a capture of the kernel module tells them, and which of them hold for a hit.

A hit names the mappings that it was walked by, by their generation. Where it had none, what was told of the same
program of the same process holds: the first mappings after it and, where those leave room, the last ones before it. A
process that ended before anybody looked has those of the process that it was forked from, if that is known: it began
with the same mappings, and what tells one program's run from another, where its stack began, is the same, too.
"""

from __future__ import annotations

import base64
import json
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from relay_reader.capture import Event, Mapping, MappingAdded, ProcessExeced, Sample, UserStack


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
    _applied: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """pid -> generations."""

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

    def all(self) -> list[ToldSpace]:
        """Everything that was told, by generation."""
        return [space for _, space in sorted(self._by_generation.items())]

    def events_for(self, sample: Sample, comm: str) -> Iterator[Event]:
        """What makes the mappings of the sample's process those that hold for it."""
        if sample.user_stack is None:
            return
        spaces = self._spaces_of(sample, sample.user_stack)
        generations = tuple(each.generation for each in spaces)
        if self._applied.get(sample.pid, ()) == generations:
            return
        self._applied[sample.pid] = generations
        yield ProcessExeced(sample.time_ns, sample.pid, comm)
        for space in spaces:
            for mapping in space.mappings:
                yield MappingAdded(sample.time_ns, sample.pid, mapping)

    def _spaces_of(self, sample: Sample, stack: UserStack) -> list[ToldSpace]:
        """What holds for the hit; a later one counts where they differ."""
        if stack.generation in self._by_generation:
            return [self._by_generation[stack.generation]]
        known = self._by_program.get((sample.pid, stack.start_stack)) or self._by_stack.get(stack.start_stack, [])
        after = bisect_right(known, sample.time_ns, key=lambda each: each.time_ns)
        return known[max(after - 1, 0) : after + 1]
