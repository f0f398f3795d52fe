"""A program or library that a served file tells of."""

from __future__ import annotations

from typing import NamedTuple


class MappedFile(NamedTuple):
    """Where it was, and which build."""

    path: str
    build_id: bytes | None
    """None where it is not told."""
