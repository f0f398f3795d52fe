"""Weights of stacks added up, by function and by stack; what was added can be taken away again.

Kept as samples come and go, so that a table costs a sort however long the run has been.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """One stack of functions; there is one object a stack, which stands for it."""

    functions: tuple[int, ...]
    """Indices of functions, innermost first; at least one."""
    distinct: tuple[int, ...]
    """Each of them once."""
    cut: bool
    """Its outer part is not known."""


class Tally:
    """The weights of the samples that were added and not removed."""

    __slots__ = ("cut", "own", "samples", "stacks", "total", "weight")

    def __init__(self) -> None:
        self.samples = 0
        self.weight = 0
        self.cut = 0
        """Weight of stacks of which the outer part is not known."""
        self.own: dict[int, int] = {}
        """By function: of samples in itself."""
        self.total: dict[int, int] = {}
        """By function: of samples in it and what it called, each once however often it is in the stack."""
        self.stacks: dict[Stack, int] = {}

    def add(self, stack: Stack, weight: int) -> None:
        """Add one sample."""
        self.samples += 1
        self._change(stack, weight)

    def remove(self, stack: Stack, weight: int) -> None:
        """Take a sample away that was added."""
        self.samples -= 1
        self._change(stack, -weight)

    def copy(self) -> Tally:
        """As it is now."""
        found = Tally()
        found.samples, found.weight, found.cut = self.samples, self.weight, self.cut
        found.own, found.total, found.stacks = dict(self.own), dict(self.total), dict(self.stacks)
        return found

    def _change(self, stack: Stack, weight: int) -> None:
        self.weight += weight
        if stack.cut:
            self.cut += weight
        _add(self.own, stack.functions[0], weight)
        _add(self.stacks, stack, weight)
        for function in stack.distinct:
            _add(self.total, function, weight)


def _add(weights: dict[_Key, int], key: _Key, weight: int) -> None:
    """What comes to nothing is forgotten: a window must not grow with what it once held."""
    found = weights.get(key, 0) + weight
    if found:
        weights[key] = found
    else:
        weights.pop(key, None)
