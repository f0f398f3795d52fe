"""A predicate as data: what `--when` says of a stack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from relay_reader.predicate_layout import Comparison, Measure


@dataclass(frozen=True, slots=True)
class Caller:
    """A function stands above the probed one: on the innermost frame's side, kernel or user."""

    function: str
    """A shell's wildcard."""
    file: str | None = None
    """A wildcard too: the source file, or its last parts."""
    limit: int | None = None
    """How many frames above the probed one are looked at; calls that are inlined do not count."""
    direct: bool = False
    """It is what the trace shows next above the probed function."""


@dataclass(frozen=True, slots=True)
class UserCaller:
    """A function of user space stands above the probed one."""

    module: str | None
    """The program or library, as in InModule; None for any."""
    function: str
    file: str | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class InModule:
    """Any frame, the probed one too, lies in a program, library or kernel module."""

    module: str
    """Its path, the end of that, or its name; a wildcard; `libm.so` for `libm.so.6` too."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A number compares so with `value`."""

    measure: Measure
    comparison: Comparison
    value: int


@dataclass(frozen=True, slots=True)
class CommIs:
    """The thread is called so."""

    name: str


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    part: Predicate


@dataclass(frozen=True, slots=True)
class And:
    """Both."""

    left: Predicate
    right: Predicate


@dataclass(frozen=True, slots=True)
class Or:
    """Either."""

    left: Predicate
    right: Predicate


Term: TypeAlias = Caller | UserCaller | InModule | Measured | CommIs
Predicate: TypeAlias = Term | Not | And | Or


def terms(predicate: Predicate) -> list[Term]:
    """The terms of `predicate`, in the order in which they are written."""
    if isinstance(predicate, Not):
        return terms(predicate.part)
    if isinstance(predicate, And | Or):
        return terms(predicate.left) + terms(predicate.right)
    return [predicate]
