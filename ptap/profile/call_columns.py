"""The distinct calls of a stack profile in columns: a row each frame as the tree has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(slots=True)
class CallColumns:
    """Arrays of one length."""

    functions: NDArray[np.int32]
    """Index in `StackProfile.functions`."""
    addresses: NDArray[np.uint64]
    """The pc for display; 0 for what is no code."""
    lines: NDArray[np.int64]
    """From 1; 0 for none, as in the next."""
    columns: NDArray[np.int64]
    inlined: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.functions)
