"""Files by build-id alone: what a trace from elsewhere names when it names no path.

Owns the order of the search: build-id directories, the cache of debuginfod's clients, what runs on this machine, then
the servers of DEBUGINFOD_URLS. A file is taken only when it has the build-id itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from cfi_tables.debug_file import DEBUG_DIRECTORIES
from cfi_tables.elf_image import ElfError, ElfImage

_LINKS = ("/usr/lib",)
"""Beside the directories of debug files: where Fedora's packages have links to programs themselves."""
_BUILD_ID = re.compile(r"(?:[0-9a-fA-F]{2}){2,64}")


class BuildIdError(Exception):
    """No file has the build-id; the text says where was looked, and what to do."""


def parse_build_id(text: str) -> bytes:
    """The build-id that `text` writes in hexadecimal. Raises BuildIdError."""
    if _BUILD_ID.fullmatch(text.strip()) is None:
        raise BuildIdError(
            f"{text!r} is no build-id: that is a whole one in hexadecimal, as `file PROGRAM` or `readelf -n PROGRAM` "
            "prints it"
        )
    return bytes.fromhex(text.strip())


def find_build_id(build_id: bytes, directories: tuple[str, ...] = DEBUG_DIRECTORIES) -> ElfImage:
    """The program, library or debug file with `build_id`. Raises BuildIdError when nothing has it."""
    looked_at: list[str] = []
    refused: list[str] = []
    for path in _local_files(build_id, directories):
        looked_at.append(path)
        image = _open(path, build_id, refused)
        if image is not None:
            return image
    image = _of_a_process(build_id) or _from_server(build_id, looked_at, refused)
    if image is not None:
        return image
    problems = f"; {'; '.join(refused)}" if refused else ""
    raise BuildIdError(
        f"no file with build-id {build_id.hex()} at {', '.join(looked_at)}, nor in a process that runs{problems}; "
        + _remedy(build_id)
    )


def _local_files(build_id: bytes, directories: tuple[str, ...]) -> Iterator[str]:
    from cfi_tables.debuginfod_cache import DebuginfodCache

    text = build_id.hex()
    for directory in (*directories, *_LINKS):
        # The plain name is a link to the program, which knows more than its debug file: that is found from there.
        yield f"{directory}/.build-id/{text[:2]}/{text[2:]}"
        yield f"{directory}/.build-id/{text[:2]}/{text[2:]}.debug"
    folder = DebuginfodCache.from_environment(os.environ).path(build_id).parent
    yield str(folder / "executable")
    yield str(folder / "debuginfo")


def _open(path: str, build_id: bytes, refused: list[str]) -> ElfImage | None:
    try:
        if not os.path.isfile(path) or os.path.getsize(path) == 0:  # empty: debuginfod's note that no server has it
            return None
        image = ElfImage.open(path)
    except (ElfError, OSError) as error:
        refused.append(f"{path} cannot be read ({error})")
        return None
    if image.build_id != build_id:
        theirs = image.build_id.hex() if image.build_id else "none"
        refused.append(f"{path} is of another build: its build-id is {theirs}")
        return None
    return image


def _of_a_process(build_id: bytes) -> ElfImage | None:
    """The file with `build_id` that some process has mapped as code, as that process sees it."""
    seen: set[tuple[str, str]] = set()
    for process in sorted((name for name in os.listdir("/proc") if name.isdecimal()), key=int):
        try:
            with open(f"/proc/{process}/maps", encoding="utf-8", errors="surrogateescape") as maps:
                lines = maps.readlines()
        except OSError:
            continue  # it ended, or belongs to somebody else
        for line in lines:
            fields = line.rstrip("\n").split(None, 5)
            if len(fields) < 6 or "x" not in fields[1] or not fields[5].startswith("/"):
                continue
            if (fields[3], fields[4]) in seen:
                continue
            seen.add((fields[3], fields[4]))
            path = fields[5].removesuffix(" (deleted)")
            seen_there = f"/proc/{process}/root{path}"
            try:
                if not os.path.isfile(seen_there):  # replaced meanwhile, perhaps by a pipe that would make us wait
                    continue
                image = ElfImage.open(seen_there)
            except (ElfError, OSError):
                continue
            if image.build_id == build_id:
                image.path = path
                return image
    return None


def _from_server(build_id: bytes, looked_at: list[str], refused: list[str]) -> ElfImage | None:
    from cfi_tables.debuginfod import debuginfod_from_environment

    servers = debuginfod_from_environment()
    if servers is None:
        return None
    looked_at += servers.urls
    fetched = servers.debug_file(build_id, f"build-id {build_id.hex()[:8]}")
    if fetched.path is None:
        refused.append(fetched.reason)
        return None
    return _open(fetched.path, build_id, refused)


def _remedy(build_id: bytes) -> str:
    text = build_id.hex()
    wanted = f"install the package that provides /usr/lib/debug/.build-id/{text[:2]}/{text[2:]}.debug"
    if not os.environ.get("DEBUGINFOD_URLS"):
        wanted += ", have it fetched (DEBUGINFOD_URLS names servers)"
    return f"{wanted}, or name the file (-e)"
