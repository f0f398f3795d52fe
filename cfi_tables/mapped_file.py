"""Files of the cache: written whole or not at all, and mapped.

Owns how bytes come to a file and back. Tables and symbol indices keep themselves by it.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_whole(path: str | Path, data: NDArray[np.uint8]) -> None:
    """Write `data` to `path` under another name, then give it its own. Raises OSError."""
    target = Path(path)
    contents: Any = data
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        with open(temporary, "xb") as file:
            file.write(contents)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def map_whole(path: str | Path) -> NDArray[np.uint8] | None:
    """The bytes of the file at `path`, mapped; None when it is empty. Raises OSError."""
    with open(path, "rb") as file:
        try:
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)
        except ValueError:
            return None
