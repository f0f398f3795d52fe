"""What a served file is, without its stacks being walked: kind, counts, what is wrong with it, and its modules."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cfi_tables.elf_image import ElfImage
from ptap.capture_summary import CaptureSummary, EventCounts
from ptap.cli.failure import Failure, told_to_the_user
from ptap.service.firefox_profile import ProfileError, is_firefox_profile, libraries, read_profile
from ptap.service.mapped_file import MappedFile
from relay_reader.capture_kind import CaptureKind, kind_of_file

if TYPE_CHECKING:
    from collections.abc import Iterable

_CORE_FILE = 4
"""ET_CORE (elf.h)."""
_HEAD = 18
"""Bytes of an ELF file up to its type's end."""
_BIG_ENDIAN = 2
"""ELFDATA2MSB."""


class Content(Enum):
    """What can be had of a served file."""

    STACKS = "stacks"
    """Reports, in all forms."""
    PROFILE = "profile"
    """Itself, as the Firefox Profiler opens it."""
    SYMBOLS = "symbols"
    """Nothing but symbols and sources: it is a program or library."""
    NOTHING = "nothing"


@dataclass(slots=True)
class CaptureFacts:
    """Of one file; with `problems` alone where it could not be read."""

    kind: str = CaptureKind.UNKNOWN.value
    content: Content = Content.NOTHING
    counts: dict[str, Any] = field(default_factory=dict)
    """samples, lost, processes, threads, span_ns; empty where they are not known."""
    problems: list[str] = field(default_factory=list)
    modules: dict[MappedFile, None] = field(default_factory=dict)
    """In the order in which they were mapped."""


def content_of(path: str) -> Content:
    """What can be had of the file at `path`, by its first bytes. Raises OSError."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"\x7fELF") and len(head) == _HEAD:
        order: Literal["big", "little"] = "big" if head[5] == _BIG_ENDIAN else "little"
        return Content.STACKS if int.from_bytes(head[16:], order) == _CORE_FILE else Content.SYMBOLS
    if is_firefox_profile(path):
        return Content.PROFILE
    return Content.NOTHING if kind_of_file(path) is CaptureKind.UNKNOWN else Content.STACKS


def read_facts(path: str) -> CaptureFacts:
    """The facts of the file at `path`. That it cannot be read is one of them."""
    facts = CaptureFacts()
    try:
        with told_to_the_user():
            _read(path, facts)
    except (Failure, ProfileError) as error:
        facts.content = Content.NOTHING
        facts.problems.append(str(error))
    return facts


def _read(path: str, facts: CaptureFacts) -> None:
    kind = kind_of_file(path)
    facts.kind = kind.value
    facts.content = content_of(path)
    if facts.content is Content.SYMBOLS:
        facts.kind = "program or library"
        facts.modules[MappedFile(str(Path(path).absolute()), ElfImage.open(path).build_id)] = None
    elif facts.content is Content.PROFILE:
        facts.kind = "profile for the Firefox Profiler"
        facts.modules = dict.fromkeys(libraries(path, read_profile(path)))
    elif kind is CaptureKind.CAPTURE:
        _read_capture_file(path, facts)
    elif kind is CaptureKind.PERF_DATA:
        _read_perf_data(path, facts)
    elif kind is CaptureKind.MODULE:
        _read_module_capture(path, facts)
    elif kind is CaptureKind.CORE:
        _read_core_file(path, facts)
    else:
        facts.problems.append(f"{path}: neither a capture, perf.data, a core file, nor a program or library")


def _read_capture_file(path: str, facts: CaptureFacts) -> None:
    told = CaptureSummary(path).object()
    facts.problems += told["damage"]
    if not told["complete"] and not told["damage"]:
        facts.problems.append("the recording was not ended in order: samples at its end may be missing")
    recordings = told["recordings"]
    names = ("samples", "lost", "processes", "threads")
    facts.counts = {name: sum(each[name] for each in recordings) for name in names}
    facts.counts["span_ns"] = max((each["span_ns"] for each in recordings), default=0)
    for each in recordings:
        facts.problems += each["problems"]
        _add_modules(facts, each["mapped"])


def _read_perf_data(path: str, facts: CaptureFacts) -> None:
    from relay_reader.perf_data import PerfData

    perf = PerfData(path)
    try:
        counts = EventCounts()
        for event in perf.events():
            counts.add(event)
        facts.problems += perf.shortcomings()
    finally:
        perf.close()
    _take(facts, counts)


def _read_module_capture(path: str, facts: CaptureFacts) -> None:
    from relay_reader.module_capture import ModuleCapture

    capture = ModuleCapture(Path(path))
    counts = EventCounts()
    for event in capture.events():
        counts.add(event)
    _take(facts, counts)
    files = capture.description.get("files", {})
    _add_modules(facts, ({"path": each["path"], "build_id": build_id} for build_id, each in files.items()))


def _read_core_file(path: str, facts: CaptureFacts) -> None:
    from relay_reader.core_file import CoreFile

    core = CoreFile(path)
    try:
        counts = EventCounts()
        for event in core.events():
            counts.add(event)
        facts.problems += [f"{path}: {fault.value}" for fault in core.faults]
    finally:
        core.close()
    _take(facts, counts)


def _take(facts: CaptureFacts, counts: EventCounts) -> None:
    told = counts.object()
    facts.counts = {name: told[name] for name in ("samples", "lost", "processes", "threads", "span_ns")}
    _add_modules(facts, told["mapped"])


def _add_modules(facts: CaptureFacts, mapped: Iterable[dict[str, Any]]) -> None:
    for each in mapped:
        path = each["path"].removesuffix(" (deleted)")
        if path.startswith("/") and not path.startswith("//"):
            facts.modules[MappedFile(path, bytes.fromhex(each["build_id"]) if each["build_id"] else None)] = None
