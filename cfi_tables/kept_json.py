"""A small JSON file of the cache: a line with the checksum of the rest, then the value; replaced as a whole."""

from __future__ import annotations

import json
import os
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def encoded(value: Any) -> bytes:
    """What a file with `value` holds."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return b"%08x\n" % zlib.crc32(body) + body


def read_kept(path: Path) -> Any:
    """The value in the file at `path`; None where there is no file, or a damaged one."""
    with suppress(OSError, ValueError, RecursionError):
        checksum, _, body = path.read_bytes().partition(b"\n")
        if int(checksum, 16) == zlib.crc32(body):
            return json.loads(body)
    return None


def write_whole(path: Path, text: bytes) -> None:
    """Write `text` under another name, then give it its own. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        temporary.write_bytes(text)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
