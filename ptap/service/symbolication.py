"""The symbolication API, /symbolicate/v5: offsets in modules → functions, files, lines and inlined calls.

The request and the answer are those of Mozilla's symbolication server (tecken.readthedocs.io, "Symbolication"), with
what the Firefox Profiler's local servers have added: `inlines`, and `module_errors` for modules without symbols.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from ptap.profile.json_text import json_text
from ptap.service.json_request import kind_name, member
from ptap.service.module_directory import SYMBOL_ERRORS, UnknownModule
from ptap.service.work_queue import Unfinished
from unwind.symbolize.function_name import readable_name

if TYPE_CHECKING:
    from ptap.service.limits import Limits
    from ptap.service.module_directory import ModuleDirectory, ServedModule
    from unwind.symbolize.index_lookup import AddressFrames

_NO_MODULE = -1
"""Index of a frame that lies in none of the modules."""
_ADDRESSES = 1 << 64
_BATCH = 8192
"""Addresses that are looked up between two looks at the clock."""


@dataclass(frozen=True, slots=True)
class Job:
    """One part of a request."""

    modules: list[tuple[str, str]]
    """Debug name and breakpad id."""
    stacks: list[list[tuple[int, int]]]
    """Index of a module, and the offset in it."""


def read_jobs(request: Any, limits: Limits) -> list[Job]:
    """The jobs of a request, which may be one job itself. Raises BadRequest and RequestEntityTooLarge."""
    if isinstance(request, dict) and "jobs" not in request:
        parts = [request]
    else:
        parts = member(request, "jobs", list, "the request")
    jobs = [_job(each, f"job {number}") for number, each in enumerate(parts)]
    asked = sum(len(stack) for job in jobs for stack in job.stacks)
    if asked > limits.addresses:
        raise RequestEntityTooLarge(f"{asked} addresses are asked for, and {limits.addresses} are answered at once")
    modules = sum(len(job.modules) for job in jobs)
    if modules > limits.modules:
        raise RequestEntityTooLarge(f"{modules} modules are named, and {limits.modules} are looked for at once")
    return jobs


def _job(part: Any, what: str) -> Job:
    modules = [_module(each, what) for each in member(part, "memoryMap", list, what)]
    stacks = []
    for stack in member(part, "stacks", list, what):
        if not isinstance(stack, list):
            raise BadRequest(f"a stack of {what} has to be an array, not {kind_name(stack)}")
        stacks.append([_frame(each, what, len(modules)) for each in stack])
    return Job(modules, stacks)


def _module(pair: Any, what: str) -> tuple[str, str]:
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(each, str) for each in pair):
        raise BadRequest(f"each module in the memoryMap of {what} has to be [debugName, breakpadId], two strings")
    return pair[0], pair[1]


def _frame(pair: Any, what: str, modules: int) -> tuple[int, int]:
    if not isinstance(pair, list) or len(pair) != 2 or not all(type(each) is int for each in pair):
        raise BadRequest(f"each frame of {what} has to be [index of a module, offset], two whole numbers")
    index, offset = pair
    if not _NO_MODULE <= index < modules:
        raise BadRequest(f"a frame of {what} is in module {index}, and its memoryMap has {modules}")
    if not 0 <= offset < _ADDRESSES:
        raise BadRequest(f"a frame of {what} has the offset {offset}, which is no address")
    return index, offset


class Symbolication:
    """The answer to one request, made of the modules of `directory`."""

    def __init__(self, jobs: list[Job], directory: ModuleDirectory, limits: Limits) -> None:
        self._jobs = jobs
        self._directory = directory
        self._limits = limits
        self._deadline = time.monotonic() + limits.answer_seconds
        self._known: dict[tuple[tuple[str, str], int], str] = {}
        """The text of each frame but its number, by module and offset."""
        self._known_size = 0
        self._errors: dict[tuple[str, str], str] = {}
        """Why a module has no symbols."""

    def answer(self) -> bytes:
        """The answer as JSON. Raises RequestEntityTooLarge, Unfinished."""
        for module, offsets in self._asked().items():
            self._look_up(module, sorted(offsets))
        parts: list[str] = []
        size = 0
        for part in self._texts():
            size += len(part)  # ASCII
            self._check_size(size)
            parts.append(part)
        return "".join(parts).encode("ascii")

    def _check_size(self, size: int) -> None:
        if size > self._limits.answer_bytes:
            raise RequestEntityTooLarge(
                f"the answer has more than {self._limits.answer_bytes} bytes: ask for fewer addresses at once"
            )

    def _asked(self) -> dict[tuple[str, str], set[int]]:
        asked: dict[tuple[str, str], set[int]] = {}
        for job in self._jobs:
            for stack in job.stacks:
                for index, offset in stack:
                    if index != _NO_MODULE:
                        asked.setdefault(job.modules[index], set()).add(offset)
        return asked

    def _look_up(self, module: tuple[str, str], offsets: list[int]) -> None:
        try:
            served = self._directory.find(*module)
            inside = [each for each in offsets if each + served.base < _ADDRESSES]
            for begin in range(0, len(inside), _BATCH):
                if time.monotonic() > self._deadline:
                    raise Unfinished
                batch = inside[begin : begin + _BATCH]
                for offset, text in zip(batch, _frame_texts(served, module[0], batch), strict=True):
                    self._known[module, offset] = text
                    self._known_size += len(text)
                self._check_size(self._known_size)
        except (UnknownModule, *SYMBOL_ERRORS) as error:
            self._errors[module] = str(error)

    def _texts(self) -> Iterator[str]:
        """The answer in pieces."""
        yield '{"results":['
        for number, job in enumerate(self._jobs):
            yield ',{"stacks":[' if number else '{"stacks":['
            for at, stack in enumerate(job.stacks):
                yield ",[" if at else "["
                for depth, (index, offset) in enumerate(stack):
                    module = job.modules[index] if index != _NO_MODULE else None
                    known = self._known.get((module, offset)) if module is not None else None
                    if known is None:
                        known = _unknown_frame(module[0] if module is not None else "<unknown>", offset)
                    yield f'{"," if depth else ""}{{"frame":{depth},{known}'
                yield "]"
            yield f"]{self._module_texts(job)}}}"
        yield "]}"

    def _module_texts(self, job: Job) -> str:
        asked = {index for stack in job.stacks for index, _ in stack}
        found: dict[str, bool | None] = {}
        errors: dict[str, list[dict[str, str]]] = {}
        for index, module in enumerate(job.modules):
            name = "/".join(module)
            if index in asked:
                found[name] = module not in self._errors
                if module in self._errors:
                    errors[name] = [{"name": "NoSymbols", "message": json_text(self._errors[module])}]
            else:
                found.setdefault(name, None)
        text = f',"found_modules":{json.dumps(found)}'
        return text + f',"module_errors":{json.dumps(errors)}' if errors else text


def _unknown_frame(name: str, offset: int) -> str:
    return json.dumps({"module_offset": f"{offset:#x}", "module": name})[1:]


def _frame_texts(served: ServedModule, name: str, offsets: list[int]) -> list[str]:
    """The frame at each offset, without the brace that it begins with."""
    addresses = np.array([served.base + each for each in offsets], dtype=np.uint64)
    frames = served.symbolizer.frames(addresses)
    entries = served.symbolizer.function_offsets(addresses).tolist()
    bounds = frames.offsets.tolist()
    texts = []
    for at, offset in enumerate(offsets):
        told: dict[str, Any] = {"module_offset": f"{offset:#x}", "module": name}
        calls = [_call(frames, row) for row in range(bounds[at], bounds[at + 1])]
        if calls:
            told.update(calls[-1])
            behind = entries[at]
            if behind < 0:  # a part that lies apart from its function, as cold code does: from that part's own begin
                start = served.symbolizer.symbol_start(int(addresses[at]))
                behind = -1 if start is None else int(addresses[at]) - start
            if behind >= 0:
                told["function_offset"] = f"{behind:#x}"
            if len(calls) > 1:
                told["inlines"] = calls[:-1]
        texts.append(json.dumps(told)[1:])
    return texts


def _call(frames: AddressFrames, row: int) -> dict[str, Any]:
    """One call: what is not known of it is left out."""
    name, file = frames.name_table[int(frames.names[row])], frames.file_table[int(frames.files[row])]
    line = int(frames.lines[row])
    told: dict[str, Any] = {}
    if name:
        told["function"] = json_text(readable_name(name))
    if file:
        told["file"] = json_text(file)
    if line:
        told["line"] = line
    return told
