"""The frames of single addresses of a module, kept from one run to the next: what was read of them without an index.

An index of a large module takes a while to make, the names of one stack do not; the next look at the same program
mostly asks for the same addresses. A file is small (`cfi_tables.kept_json`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cfi_tables.cache import cached_path, keep, note_use
from cfi_tables.kept_json import encoded, read_kept, write_whole

if TYPE_CHECKING:
    from cfi_tables.elf_image import ElfImage

_FORMAT_VERSION = 1
_MOST_ADDRESSES = 4096
_LARGEST = 4 << 20
"""Bytes of a file; a larger one is begun anew."""


class NamedFrame(NamedTuple):
    """One frame at an address, as people read it."""

    function: str | None
    offset: int | None
    """Bytes from where the function is entered; None in an inlined call and where that is not known."""
    file: str | None
    line: int | None
    column: int | None
    inlined: bool


class KeptFrames:
    """The frames of some addresses of one module; `has_debug` tells whether it has debugging information."""

    def __init__(self, has_debug: bool, frames: dict[int, list[NamedFrame]]) -> None:
        self.has_debug = has_debug
        self._frames = frames

    def frames(self, address: int) -> list[NamedFrame] | None:
        """The frames at `address`, innermost first, [] where nothing is known; None for one that was not kept."""
        return self._frames.get(address)

    @classmethod
    def load(cls, image: ElfImage, debug: ElfImage | None) -> KeptFrames | None:
        """What is kept of `image`, whose separate debug file is `debug`; None without a file that can be used."""
        path = _path(image, debug)
        found = _read(path)
        if found is None:
            return None
        note_use(path)
        return found

    def add(self, frames: Mapping[int, Iterable[NamedFrame]], image: ElfImage, debug: ElfImage | None) -> None:
        """Keep more of them; that the file cannot be written is no error."""
        known = self._frames if len(self._frames) + len(frames) <= _MOST_ADDRESSES else {}
        self._frames = {**known, **{address: list(each) for address, each in frames.items()}}
        text = encoded(
            {"has_debug": self.has_debug, "frames": {f"{each:x}": value for each, value in self._frames.items()}}
        )
        if len(text) <= _LARGEST:
            keep(_path(image, debug), len(text), lambda path: write_whole(path, text))


def _path(image: ElfImage, debug: ElfImage | None) -> Path:
    return cached_path(image, debug, _FORMAT_VERSION, "frames")


def _read(path: Path) -> KeptFrames | None:
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        told: Any = read_kept(path)
        frames = {int(at, 16): [NamedFrame(*each) for each in found] for at, found in told["frames"].items()}
        return KeptFrames(bool(told["has_debug"]), frames)
    return None
