"""What a place in a log comes to: addresses of a source of frames, and the frames that are found there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from unwind.symbolize.address_source import AddressSource
from unwind.symbolize.function_name import readable_name
from unwind.symbolize.index_lookup import AddressFrames, Reason
from unwind.trace import TraceFrame


class Lookup(NamedTuple):
    """Addresses that one place may mean: several where nothing tells which."""

    source: AddressSource
    addresses: tuple[int, ...]
    """As the source counts them; of a call, not of where it returns to."""
    shown: tuple[int, ...]
    """The same for people: a return address is not reduced, and moved to where it was as far as that is known."""
    behind: int
    """By how much an address was reduced."""
    space: str
    """Either `kernel` or `user`."""
    module: str | None = None
    """What the source is called in frames, where it is not by its path."""


class Miss(NamedTuple):
    """Why nothing is known of a place. What is the same for many is `why`; `example` tells of this one."""

    why: str
    example: str | None = None


@dataclass(slots=True)
class Answer:
    """The frames of one place."""

    frames: list[TraceFrame] = field(default_factory=list)
    """Innermost first; none where nothing is known, or not which."""
    choices: list[list[TraceFrame]] = field(default_factory=list)
    """The frames of each address that the place may mean, where they differ."""
    miss: Miss | None = None
    """Why there are no frames."""


def answers_of(source: AddressSource, lookups: Sequence[Lookup]) -> list[Answer]:
    """The answers to lookups of one source, in one batch."""
    addresses = np.array([each for lookup in lookups for each in lookup.addresses], dtype=np.uint64)
    found = _Found(source.frames(addresses))
    offsets = source.function_offsets(addresses).tolist()
    labels = source.labels(addresses)
    answers = []
    at = 0
    for lookup in lookups:
        choices: list[list[TraceFrame]] = []
        for shown in lookup.shown:
            offset = offsets[at] + lookup.behind if offsets[at] >= 0 else None
            module = lookup.module or labels[at].name
            frames = found.frames(at, TraceFrame(lookup.space, shown, module, labels[at].build_id, offset=offset))
            if frames and not any(_same_code(frames, each) for each in choices):
                choices.append(frames)
            at += 1
        if len(choices) == 1:
            answers.append(Answer(choices[0]))
        elif choices:
            answers.append(Answer(choices=choices))
        else:
            name = lookup.module or labels[at - 1].name
            answers.append(Answer(miss=Miss(f"{name}: {found.reason(at - 1)}", f"{lookup.shown[0]:#x}")))
    return answers


class _Found:
    """The frames of a batch. Names and files come again in many frames, and are made text once."""

    def __init__(self, found: AddressFrames) -> None:
        self._found = found
        self._bounds: list[int] = found.offsets.tolist()
        columns = (found.names, found.files, found.lines, found.columns, found.inlined)
        self._rows = list(zip(*(column.tolist() for column in columns), strict=True))
        self._functions: dict[int, str | None] = {0: None}
        self._files: dict[int, str | None] = {0: None}

    def reason(self, number: int) -> str:
        """Why address `number` has no frames."""
        return Reason(int(self._found.reasons[number])).text

    def frames(self, number: int, outer: TraceFrame) -> list[TraceFrame]:
        """The frames of address `number`, which have what `outer` has."""
        frames = []
        for name, file, line, column, inlined in self._rows[self._bounds[number] : self._bounds[number + 1]]:
            frames.append(
                TraceFrame(
                    space=outer.space,
                    address=outer.address,
                    module=outer.module,
                    build_id=outer.build_id,
                    function=self._function(name),
                    offset=None if inlined else outer.offset,
                    file=self._file(file),
                    line=line or None,
                    column=column or None,
                    inlined=inlined,
                )
            )
        return frames

    def _function(self, number: int) -> str | None:
        if number not in self._functions:
            name = self._found.name_table[number]
            self._functions[number] = readable_name(name) if name else None
        return self._functions[number]

    def _file(self, number: int) -> str | None:
        if number not in self._files:
            self._files[number] = self._found.file_table[number] or None
        return self._files[number]


def _same_code(frames: list[TraceFrame], others: list[TraceFrame]) -> bool:
    """Whether two stacks say the same: copies of one function that several units have."""

    def said(each: TraceFrame) -> tuple[object, ...]:
        return each.function, each.file, each.line, each.column, each.inlined

    return [said(each) for each in frames] == [said(each) for each in others]
