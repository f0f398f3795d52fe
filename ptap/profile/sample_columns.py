"""The samples of a stack profile in columns: a row a trace that was added, in the order in which they came."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

_EXACT = float(1 << 52)
"""Sums below it are exact in floating point, whatever the order."""

NO_PROBE = -1


@dataclass(slots=True)
class SampleColumns:
    """Arrays of one length."""

    stacks: NDArray[np.int32]
    """The innermost call of each: index in `StackProfile.parents`."""
    threads: NDArray[np.int32]
    """Index in `StackProfile.threads`."""
    times: NDArray[np.uint64]
    """Nanoseconds."""
    cpus: NDArray[np.int32]
    """-1: not told."""
    weights: NDArray[np.uint64]
    probes: NDArray[np.int32]
    """Index in `StackProfile.probes`, or NO_PROBE."""

    def __len__(self) -> int:
        return len(self.stacks)

    def chosen(self, which: NDArray[np.int64]) -> SampleColumns:
        """Some of them."""
        return SampleColumns(*(getattr(self, each.name)[which] for each in fields(self)))

    @property
    def weight(self) -> int:
        """Of all of them."""
        return exact_sum(self.weights)

    def by_thread(self) -> list[tuple[int, NDArray[np.int64]]]:
        """The threads' numbers, in the order in which they are first met, and which samples are theirs."""
        import numpy as np

        order = np.argsort(self.threads, kind="stable")
        ordered = self.threads[order]
        begins = np.flatnonzero(np.diff(ordered, prepend=-1))
        parts = np.split(order, begins[1:]) if len(order) else []
        return [(int(self.threads[part[0]]), part) for part in sorted(parts, key=lambda part: int(part[0]))]


def joined_samples(parts: Sequence[SampleColumns]) -> SampleColumns:
    """Several of these as one."""
    import numpy as np

    no_stacks, no_times = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.uint64)
    none = SampleColumns(no_stacks, no_stacks, no_times, no_stacks, no_times, no_stacks)
    columns = ([getattr(part, each.name) for part in (none, *parts)] for each in fields(none))
    return SampleColumns(*(np.concatenate(column) for column in columns))


def exact_sum(weights: NDArray[np.uint64]) -> int:
    """The sum of weights, however large it is."""
    exact = weights.sum(dtype=float) < _EXACT
    return int(weights.sum()) if exact else sum(weights.tolist())


def added_up(groups: NDArray[Any], weights: NDArray[Any], count: int) -> NDArray[Any]:
    """The sum of the weights (not negative) of each group below `count`: int64, objects where that may not hold it."""
    import numpy as np

    if not len(weights) or weights.sum(dtype=float) < _EXACT:
        return np.bincount(groups, weights.astype(np.float64), count).astype(np.int64)
    sums = np.zeros(count, dtype=object)
    np.add.at(sums, groups, weights.astype(object))
    return sums
