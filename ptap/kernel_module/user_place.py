"""Probes in programs and libraries as the kernel module sets them: a file's path, and a place in the file."""

from __future__ import annotations

from dataclasses import dataclass

from ptap.backend.live_capture import PlaceKind
from ptap.probe.point import ProbePoint, parse_probe_point
from ptap.probe.resolve import ProbeNotFound, Resolver
from relay_reader import record_layout as layout
from unwind.dwarf.die import Die


@dataclass(frozen=True, slots=True)
class UserPlace:
    """Where one probe is to be set."""

    name: str
    """The probe point with the one function that it resolved to, as traces name it."""
    function: str
    symbol: str
    """The path of the file, on the traced machine."""
    offset: int
    """In the file."""
    kind: layout.ProbeKind
    address: int
    """In the file's own address space."""
    build_id: str | None
    die: Die | None = None
    """The probed function or inlined copy, when its first instruction is the place."""

    @property
    def reached(self) -> str:
        """How the kernel is told of it."""
        return f"{self.symbol}+{self.offset:#x}"


def is_user_point(text: str) -> bool:
    """Whether it is a probe point of a program."""
    return text.lstrip().startswith("process")


def parse_user_point(text: str) -> ProbePoint:
    """`text` as a probe point of a program that is named. Raises ProbeSyntaxError and ProbeNotFound."""
    point = parse_probe_point(text)
    if point.path is None:
        raise ProbeNotFound(f'{text}: name the program, as in process("/usr/bin/ls").function("main")')
    return point


def user_places(resolver: Resolver, point: ProbePoint) -> list[UserPlace]:
    """The places of `point`, by address. Raises ProbeNotFound, PathNotFound and ElfError."""
    found = []
    for each in resolver.resolve(point):
        kind = layout.ProbeKind.USER_RETURN if each.place.kind is PlaceKind.RETURN else layout.ProbeKind.USER_ENTRY
        identity = resolver.build_id(each.place.path)
        place = each.place
        found.append(
            UserPlace(
                *(each.probe, point.function, place.path, place.file_offset, kind, each.address, identity, each.die)
            )
        )
    return found
