"""What gives the frames of addresses: a file, a kernel with its modules, or a list of names."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from unwind.symbolize.index_lookup import AddressFrames

if TYPE_CHECKING:
    from unwind.arguments.argument_reader import Argument


class ModuleLabel(NamedTuple):
    """What the code at an address belongs to."""

    name: str
    """A path, or a kernel module's name."""
    build_id: str | None = None
    """Hexadecimal."""


class AddressSource(Protocol):
    """Frames by address, many at once. A miss is data: no frames, and a reason."""

    @property
    def problems(self) -> list[str]:
        """What could not be used, where that was noticed: a line each, for people."""

    @property
    def names_with_offsets(self) -> bool:
        """Whether a name without a line is shown with its offset and what it belongs to: `vfs_read+0x1c [kvm]`."""

    def frames(self, addresses: NDArray[np.uint64]) -> AddressFrames:
        """The frames at `addresses`, in any order."""

    def function_offsets(self, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """How far each address lies behind its function's entry, -1 where that is not known."""

    def arguments(self, address: int) -> list[list[Argument]]:
        """The parameters of each frame at an address, innermost first; [] where nothing is known of them."""

    def labels(self, addresses: NDArray[np.uint64]) -> list[ModuleLabel]:
        """What each address belongs to."""
