"""Separate debug files: which file on this machine holds the DWARF of a stripped program.

Owns the search by build-id and by .gnu_debuglink, as gdb documents it ("Debugging Information in Separate
Files"), then by debuginfod. Data comes from an `ElfImage` and the file system; the result goes to whoever reads
DWARF. A file whose build-id or checksum differs is refused: it belongs to another build, and its lines would look
right and be wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfi_tables.elf_image import ElfError, ElfImage

DEBUG_DIRECTORIES = ("/usr/lib/debug",)


@dataclass(frozen=True, slots=True)
class DebugFile:
    """The outcome of a search."""

    image: ElfImage | None
    """The debug file, opened; None when there is none."""
    path: str | None
    reason: str
    """Why there is none; "" when there is one."""
    looked_at: tuple[str, ...]
    """The paths and servers that were tried, in order."""
    refused: tuple[str, ...] = ()
    """Why each file that was there, and each server, did not give one."""


def separate_debug_file(image: ElfImage, debug_directories: tuple[str, ...] = DEBUG_DIRECTORIES) -> DebugFile | None:
    """The separate file with the DWARF of `image`, as far as one is found; None where `image` has its own."""
    if image.little_endian and image.has(".debug_info"):
        return None
    return find_debug_file(image, debug_directories)


def find_debug_file(image: ElfImage, debug_directories: tuple[str, ...] = DEBUG_DIRECTORIES) -> DebugFile:
    """The separate debug file of `image`; never raises, a failure is in `reason`."""
    looked_at: list[str] = []
    refused: list[str] = []
    build_id = image.build_id
    for path in candidates_by_build_id(build_id, debug_directories):
        looked_at.append(path)
        found = _open(path, image, None, refused)
        if found is not None:
            return DebugFile(found, path, "", tuple(looked_at))
    try:
        link = _debug_link(image)
    except ElfError as error:
        refused.append(str(error))
        link = None
    if link is not None:
        name, checksum = link
        for path in _candidates_by_link(image.path, name, debug_directories):
            looked_at.append(path)
            found = _open(path, image, checksum, refused)
            if found is not None:
                return DebugFile(found, path, "", tuple(looked_at))
    found = _from_server(image, looked_at, refused)
    if found is not None:
        return DebugFile(found, found.path, "", tuple(looked_at))
    if refused:
        reason = "; ".join(refused)
    elif not looked_at:
        reason = "the file has neither a build-id nor a .gnu_debuglink, so no debug file can belong to it"
    else:
        reason = "no debug file at " + ", ".join(looked_at)
    return DebugFile(None, None, reason, tuple(looked_at), tuple(refused))


def _from_server(image: ElfImage, looked_at: list[str], refused: list[str]) -> ElfImage | None:
    """By debuginfod, where the user has named servers."""
    if image.build_id is None:
        return None
    from cfi_tables.debuginfod import debuginfod_from_environment

    servers = debuginfod_from_environment()
    if servers is None:
        return None
    looked_at += servers.urls
    fetched = servers.debug_file(image.build_id, image.path)
    if fetched.path is None:
        refused.append(fetched.reason)
        return None
    return _open(fetched.path, image, None, refused)


def candidates_by_build_id(build_id: bytes | None, directories: tuple[str, ...]) -> Iterator[str]:
    """Where debug files are by build-id, in each of the directories."""
    if build_id is None or len(build_id) < 2:
        return
    text = build_id.hex()
    for directory in directories:
        yield f"{directory}/.build-id/{text[:2]}/{text[2:]}.debug"


def _candidates_by_link(path: str, name: str, directories: tuple[str, ...]) -> Iterator[str]:
    folder = Path(os.path.realpath(path)).parent
    yield str(folder / name)
    yield str(folder / ".debug" / name)
    for directory in directories:
        yield str(Path(directory, *folder.parts[1:], name))


def _debug_link(image: ElfImage) -> tuple[str, int] | None:
    """File name and CRC-32 from .gnu_debuglink: a string, padded to 4 bytes, then the checksum."""
    if not image.has(".gnu_debuglink"):
        return None
    data = image.section_data(".gnu_debuglink").tobytes()
    end = data.find(b"\0")
    place = end + 4 & ~3
    if end <= 0 or place + 4 > len(data):
        raise ElfError(f"{image.path}: section .gnu_debuglink is damaged; install the file again")
    checksum = int.from_bytes(data[place : place + 4], "little" if image.little_endian else "big")
    # The name is a plain file name; a path in it must not lead out of the folders that are searched.
    return Path(os.fsdecode(data[:end])).name, checksum


def _open(path: str, image: ElfImage, checksum: int | None, refused: list[str]) -> ElfImage | None:
    try:
        if Path(path).samefile(image.path):
            return None
    except OSError:
        pass  # one of them is not there (the vdso has no path); opening tells
    try:
        if not Path(path).is_file():
            return None
        found = ElfImage.open(path)
    except (ElfError, OSError) as error:
        refused.append(f"{path} cannot be read ({error})")
        return None
    if image.build_id is not None and found.build_id is not None and image.build_id != found.build_id:
        refused.append(
            f"{path} is of another build: its build-id is {found.build_id.hex()}, "
            f"that of {image.path} is {image.build_id.hex()}"
        )
        return None
    if checksum is not None:
        import zlib

        # Although it costs a reading of the whole file: where both have the same build-id it tells a damaged one.
        contents: Any = found.data  # NumPy's stubs declare no buffer before Python 3.12
        actual = zlib.crc32(contents)
        if actual != checksum:
            refused.append(
                f"{path} is damaged or of another build: its CRC-32 is {actual:08x}, "
                f"the .gnu_debuglink of {image.path} says {checksum:08x}"
            )
            return None
        return found
    if image.build_id is not None and found.build_id is None:
        refused.append(f"{path} has no build-id to compare with {image.build_id.hex()}")
        return None
    return found
