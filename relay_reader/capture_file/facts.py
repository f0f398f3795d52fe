"""What a capture file says of the run that it is of: the machine, its clock, the probes, and what it came to.

One `SourceFacts` a recording; a file that was merged of several has one for each, by number. JSON objects whose unknown
members are kept out and whose missing ones have defaults, so that versions can read each other's.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

_HEXADECIMAL = re.compile(r"[0-9a-fA-F]*")


class FactsError(ValueError):
    """A JSON object does not say what it has to."""


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """The machine that was traced, and its clock."""

    host: str = ""
    release: str = ""
    """Of the kernel, as `uname -r` gives it."""
    version: str = ""
    machine: str = ""
    boot_id: str = ""
    kernel_build_id: str = ""
    """In hexadecimal digits; "" where the kernel does not tell."""
    page_size: int = 4096
    cpu_count: int = 0
    clock: str = "monotonic"
    """What the times of events are of; `perf` where they come from a perf.data of perf's own clock."""
    start_time_ns: int = 0
    """By that clock."""
    start_wall_ns: int = 0
    """The same moment since 1970, 0 where it is not known."""

    @property
    def wall_offset_ns(self) -> int:
        """What makes a time of an event one since 1970; 0 where that is not known."""
        return self.start_wall_ns - self.start_time_ns if self.start_wall_ns else 0


@dataclass(frozen=True, slots=True)
class ProbeFacts:
    """What the number of a place in samples stands for."""

    probe: str
    """How traces name it."""
    is_return: bool = False
    path: str | None = None
    """Of the file that the place is in; None for one of the kernel, and for events."""
    address: int | None = None
    """In the file's own address space."""
    build_id: str | None = None
    die_offset: int | None = None
    """Where .debug_info describes the probed function or inlined copy."""
    weight_unit: str = ""
    """Of its samples' weights: `ns`, or empty where they are counts."""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """One recording."""

    machine: MachineFacts = MachineFacts()
    writer: str = ""
    """The program that wrote it and its version."""
    back_end: str = ""
    command: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()
    probes: tuple[ProbeFacts, ...] = ()
    when: str | None = None
    """Which stacks were recorded, in the words of --when."""
    kernel: dict[str, Any] | None = None
    """What the kernel's stacks are walked with, where the kernel module has recorded them: `vmlinux`, `build_id`,
    `system_map`, `modules` as its session describes them."""


@dataclass(slots=True)
class SourceEnd:
    """What a recording came to, written at its end."""

    samples: int = 0
    lost: int = 0
    problems: list[str] = field(default_factory=list)


def this_machine() -> MachineFacts:
    """The machine that runs this, now."""
    name = os.uname()
    return MachineFacts(
        host=name.nodename,
        release=name.release,
        version=name.version,
        machine=name.machine,
        boot_id=_text("/proc/sys/kernel/random/boot_id"),
        kernel_build_id=_kernel_build_id(),
        page_size=os.sysconf("SC_PAGE_SIZE"),
        cpu_count=os.cpu_count() or 0,
        start_time_ns=time.monotonic_ns(),
        start_wall_ns=time.time_ns(),
    )


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _kernel_build_id() -> str:
    try:
        notes = Path("/sys/kernel/notes").read_bytes()
    except OSError:
        return ""
    at = notes.find(b"\x14\0\0\0\x03\0\0\0GNU\0")  # 20 bytes of type NT_GNU_BUILD_ID
    return notes[at + 12 : at + 32].hex() if at >= 0 else ""


def facts_object(facts: SourceFacts) -> dict[str, Any]:
    """The JSON object of `facts`."""
    return asdict(facts)


def read_facts(told: Any) -> SourceFacts:
    """The facts that a JSON object tells. Raises FactsError."""
    found = _known(SourceFacts, told)
    found["machine"] = MachineFacts(**_known(MachineFacts, found.get("machine", {})))
    found["probes"] = tuple(ProbeFacts(**_known(ProbeFacts, each)) for each in found.get("probes", ()))
    for name, kind in (("command", str), ("pids", int)):
        found[name] = tuple(found.get(name, ()))
        if not all(isinstance(each, kind) for each in found[name]):
            raise FactsError(f"{name} is no list of {kind.__name__}")
    for build_id in (found["machine"].kernel_build_id, *(each.build_id or "" for each in found["probes"])):
        _check_hexadecimal(build_id)
    kernel = found.get("kernel")
    if kernel is not None:
        _check_kernel(kernel)
    return SourceFacts(**found)


def _check_hexadecimal(text: str) -> None:
    if len(text) % 2 or not _HEXADECIMAL.fullmatch(text):
        raise FactsError(f"{text[:80]!r} is no build-id")


def _check_kernel(told: dict[str, Any]) -> None:
    """Whether what a session of the kernel module has described is of the shape that it has."""
    for name in ("vmlinux", "system_map", "build_id"):
        if not isinstance(told.get(name), (str, type(None))):
            raise FactsError(f"{name} of the kernel is {type(told[name]).__name__}")
    _check_hexadecimal(told.get("build_id") or "")
    modules = told.get("modules") or []
    try:
        for module in modules:
            _check_hexadecimal(module["build_id"] or "")
            numbers = [number for section in module["sections"] for number in (section["start"], section["end"])]
            if not all(isinstance(each, int) for each in numbers):
                raise FactsError("a section of a module has no place")
            if not all(isinstance(module[name], str) for name in ("name", "file")):
                raise FactsError("a module has no name or no file")
    except (AttributeError, KeyError, TypeError) as error:
        raise FactsError(f"a module of the kernel is not described as one: {error!r}") from None


def read_end(told: Any) -> SourceEnd:
    """The account that a JSON object tells. Raises FactsError."""
    end = SourceEnd(**_known(SourceEnd, told))
    if not all(isinstance(each, str) for each in end.problems):
        raise FactsError("problems is no list of str")
    return end


def _known(kind: type[Any], told: Any) -> dict[str, Any]:
    """The members of a JSON object that `kind` knows, each of the type of its default."""
    if not isinstance(told, dict):
        raise FactsError(f"{kind.__name__} is no JSON object")
    members: dict[str, Any] = {}
    for each in fields(kind):
        if each.name not in told:
            if each.name == "probe":
                raise FactsError("a probe has no name")
            continue
        value = told[each.name]
        expected = _JSON_TYPES.get(str(each.type).partition(" ")[0].partition("[")[0], dict)
        if value is None and "None" in str(each.type):
            members[each.name] = None
        elif isinstance(value, expected) and not (expected is int and isinstance(value, bool)):
            members[each.name] = value
        else:
            raise FactsError(f"{each.name} of {kind.__name__} is {type(value).__name__}")
    return members


_JSON_TYPES: dict[str, type] = {"str": str, "int": int, "bool": bool, "tuple": list, "list": list, "dict": dict}
