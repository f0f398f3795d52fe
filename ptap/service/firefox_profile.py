"""Profiles that others have made for the Firefox Profiler (samply, `perf script`'s converters): given on as they are.

Their libraries are modules of which symbols and sources can be asked, so that a profile without names gets them.
"""

from __future__ import annotations

import gzip
import json
import zlib
from typing import IO, TYPE_CHECKING, Any, cast

from ptap.service.mapped_file import MappedFile

if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGEST = 1 << 30
"""Bytes of a profile, unpacked."""
_BEGIN = 64


class ProfileError(Exception):
    """The file is no profile that can be served; the text says why."""


def is_firefox_profile(path: str) -> bool:
    """Whether the file at `path` begins as a JSON object does, packed by gzip or not. Raises OSError."""
    try:
        with _opened(path) as file:
            return file.read(_BEGIN).lstrip().startswith(b"{")
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return False


def read_profile(path: str) -> bytes:
    """The profile, unpacked. Raises ProfileError and OSError."""
    try:
        with _opened(path) as file:
            content = file.read(_LARGEST + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ProfileError(f"{path}: damaged ({error})") from None
    if len(content) > _LARGEST:
        raise ProfileError(f"{path}: a profile of more than {_LARGEST} bytes is not served")
    return content


def libraries(path: str, content: bytes) -> Iterator[MappedFile]:
    """The files that the profile tells of. Raises ProfileError."""
    try:
        profile = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path}: this is no JSON ({error})") from None
    rows = profile.get("libs")
    if "meta" not in profile or not isinstance(rows, list):
        raise ProfileError(f"{path}: JSON, but no profile of the Firefox Profiler: it has no 'meta' or no 'libs'")
    for row in rows:
        place = row.get("path") if isinstance(row, dict) else None
        if isinstance(place, str) and place.startswith("/") and "\0" not in place:
            yield MappedFile(place, _build_id(row))


def _build_id(row: dict[str, Any]) -> bytes | None:
    """On Linux the code id is the build-id."""
    try:
        return bytes.fromhex(row.get("codeId") or "") or None
    except (TypeError, ValueError):
        return None


def _opened(path: str) -> IO[bytes]:
    with open(path, "rb") as file:
        is_packed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path)) if is_packed else open(path, "rb")
