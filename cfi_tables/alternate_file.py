"""The file that several debug files share (dwz -m): which one it is, and where it lies.

Owns the two ways to name it: .gnu_debugaltlink (GNU) and .debug_sup (DWARF 5 §7.3.6). Data comes from the `ElfImage`
that refers to it and the file system. A file whose build-id or checksum differs is refused: what the entries refer to
would be other entries.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cfi_tables.debug_file import DEBUG_DIRECTORIES, DebugFile, candidates_by_build_id
from cfi_tables.debuginfod import debuginfod_from_environment
from cfi_tables.elf_image import ElfError, ElfImage

GNU_SECTION = ".gnu_debugaltlink"
DWARF_SECTION = ".debug_sup"


@dataclass(frozen=True, slots=True)
class AlternateLink:
    """What a debug file says of the shared file."""

    name: str
    """Path, relative to the folder of the file that has the link."""
    checksum: bytes
    """The build-id, or in .debug_sup whatever its producer chose (dwz: the build-id too)."""


def find_alternate_file(image: ElfImage, debug_directories: tuple[str, ...] = DEBUG_DIRECTORIES) -> DebugFile:
    """The shared file of `image`; never raises, a failure is in `reason`. That is "" where `image` names none."""
    try:
        link = alternate_link(image)
    except ElfError as error:
        return DebugFile(None, None, str(error), ())
    if link is None:
        return DebugFile(None, None, "", ())
    looked_at: list[str] = []
    refused: list[str] = []
    for path in dict.fromkeys(_candidates(image.path, link, debug_directories)):
        looked_at.append(path)
        found = _open(path, link, refused)
        if found is not None:
            return DebugFile(found, path, "", tuple(looked_at))
    servers = debuginfod_from_environment()
    if servers is not None:
        looked_at += servers.urls
        fetched = servers.debug_file(link.checksum, link.name)
        found = None if fetched.path is None else _open(fetched.path, link, refused)
        if found is not None:
            return DebugFile(found, fetched.path, "", tuple(looked_at))
        refused += [fetched.reason] if fetched.reason else []
    reason = "; ".join(refused) or f"no file {', '.join(looked_at)} (build-id {link.checksum.hex()})"
    return DebugFile(None, None, reason, tuple(looked_at))


def _open(path: str, link: AlternateLink, refused: list[str]) -> ElfImage | None:
    try:
        if not Path(path).is_file():
            return None
        found = ElfImage.open(path)
        checksum = _own_checksum(found)
    except (ElfError, OSError) as error:
        refused.append(f"{path} cannot be read ({error})")
        return None
    if checksum == link.checksum:
        return found
    theirs = "none" if checksum is None else checksum.hex()
    refused.append(f"{path} is of another build: its build-id is {theirs}, the link says {link.checksum.hex()}")
    return None


def alternate_link(image: ElfImage) -> AlternateLink | None:
    """The link in `image`, None without one. Raises ElfError when it is damaged."""
    if image.has(GNU_SECTION):
        name, end, checksum = image.section_data(GNU_SECTION).tobytes().partition(b"\0")
        if not name or not end or not checksum:
            raise ElfError(f"{image.path}: section {GNU_SECTION} is damaged; install the file again")
        return AlternateLink(os.fsdecode(name), checksum)
    found = _supplementary(image)
    return None if found is None or found[0] else AlternateLink(os.fsdecode(found[1]), found[2])


def _own_checksum(image: ElfImage) -> bytes | None:
    found = _supplementary(image)
    return found[2] if found is not None and found[0] else image.build_id


def _supplementary(image: ElfImage) -> tuple[bool, bytes, bytes] | None:
    """(whether the file is the shared one, name, checksum) of .debug_sup: version 2 bytes, a flag, both behind."""
    if not image.has(DWARF_SECTION):
        return None
    data = image.section_data(DWARF_SECTION).tobytes()
    end = data.find(b"\0", 3)
    size = data[end + 1] if 0 <= end < len(data) - 1 else 0x80  # no checksum is longer than one byte of LEB128 tells
    if len(data) < 5 or size >= 0x80 or end + 2 + size > len(data):
        raise ElfError(f"{image.path}: section {DWARF_SECTION} is damaged; install the file again")
    return data[2] != 0, data[3:end], data[end + 2 : end + 2 + size]


def _candidates(path: str, link: AlternateLink, directories: tuple[str, ...]) -> Iterator[str]:
    folder = os.path.dirname(os.path.realpath(path))
    yield os.path.normpath(os.path.join(folder, link.name))
    for directory in directories:  # where distributions keep them, for a debug file that was moved
        yield f"{directory}/.dwz/{os.path.basename(link.name)}"
    yield from candidates_by_build_id(link.checksum, directories)
