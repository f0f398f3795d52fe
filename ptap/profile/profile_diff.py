"""Two profiles side by side: which functions are the same in both, and how their weights compare.

Builds differ in paths, addresses and lines, so a function is known by its name. Where one of the profiles has a name
in several modules, the module tells those functions apart, by its file's name without the version of a library.
A program may have another name after: where one module is only before and one only after, they are taken to be the
same, and so are commands; `renamed` tells which.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from os.path import basename
from typing import TYPE_CHECKING

from ptap.profile.stack_profile import unnamed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ptap.profile.stack_profile import Function, StackProfile

BEFORE, AFTER = 0, 1
"""Indices of the two, wherever weights are a list of both."""
_VERSION = re.compile(r"(?<=\.so)[.\d]+$")


def no_weight() -> list[int]:
    """The weights of what neither has."""
    return [0, 0]


def state(weights: list[int]) -> str:
    """`new` for what is only after, `gone` for what was only before, else nothing."""
    if all(weights) or not any(weights):
        return ""
    return "new" if weights[AFTER] else "gone"


@dataclass(slots=True)
class ProfileDiff:
    """What was `before`, and what is `after`. Unless `absolute`, both are compared as shares of their wholes."""

    before: StackProfile
    after: StackProfile
    absolute: bool = False
    functions: list[Function] = field(init=False)
    """Those of both, each once; of paths and files that differ those after."""
    numbers: tuple[list[int], list[int]] = field(init=False)
    """By profile and its own function's index: index in `functions`."""
    wholes: tuple[int, int] = field(init=False)
    """The weights of all samples."""
    renamed_modules: dict[str, str] = field(init=False)
    """From before to after, by what `_module_name` makes of them."""
    renamed_commands: dict[str, str] = field(init=False)
    _ambiguous: set[str] = field(init=False)
    """Names that are in several modules of one profile."""

    def __post_init__(self) -> None:
        modules = [
            {_module_name(each.module) for each in profile.functions if each.module} for profile in self.profiles
        ]
        commands = [{thread.comm for thread in profile.threads} for profile in self.profiles]
        self.renamed_modules, self.renamed_commands = _renamed(*modules), _renamed(*commands)
        self._ambiguous = _ambiguous(self.before) | _ambiguous(self.after)
        self.wholes = self.before.weight, self.after.weight
        self.functions = []
        index: dict[tuple[str, str | None], int] = {}
        after = [self._number(function, index) for function in self.after.functions]
        self.numbers = [self._number(function, index) for function in self.before.functions], after

    def _number(self, function: Function, index: dict[tuple[str, str | None], int]) -> int:
        number = index.setdefault(self.key(function.name, function.module), len(self.functions))
        if number == len(self.functions):
            self.functions.append(function)
        return number

    @property
    def profiles(self) -> tuple[StackProfile, StackProfile]:
        """Both, by BEFORE and AFTER."""
        return self.before, self.after

    @property
    def scale(self) -> float:
        """What weights before are multiplied by, to be compared with those after."""
        return 1.0 if self.absolute or not all(self.wholes) else self.wholes[AFTER] / self.wholes[BEFORE]

    @property
    def renamed(self) -> dict[str, str]:
        """What has another name after."""
        return {**self.renamed_modules, **self.renamed_commands}

    def key(self, name: str, module: str | None) -> tuple[str, str | None]:
        """What is equal for a function in both profiles."""
        if not module:
            return name, None
        shown = _module_name(module)
        shown = self.renamed_modules.get(shown, shown)
        if name == unnamed(module):
            return unnamed(shown), None
        return name, shown if name in self._ambiguous else None

    def part(self, weights: list[int], side: int) -> float:
        """The fraction of the whole on one side."""
        return weights[side] / self.wholes[side] if self.wholes[side] else 0.0

    def largest_part(self, weights: list[int]) -> float:
        """The larger of both fractions."""
        return max(self.part(weights, BEFORE), self.part(weights, AFTER))

    def change(self, weights: list[int]) -> float:
        """How much more it is after: a fraction of the whole, or a weight where that is asked for."""
        if self.absolute:
            return weights[AFTER] - weights[BEFORE]
        return self.part(weights, AFTER) - self.part(weights, BEFORE)

    def texts(self, weights: list[int]) -> tuple[str, str, str]:
        """(before, after, change) for people; what is nothing is empty."""
        if not any(weights):
            return "", "", ""
        before, after = (self._text(weights, side) if weights[side] else "" for side in (BEFORE, AFTER))
        change = self.change(weights)
        return before, after, f"{change:+.0f}" if self.absolute else f"{100 * change:+.2f}%"

    def _text(self, weights: list[int], side: int) -> str:
        return str(weights[side]) if self.absolute else f"{100 * self.part(weights, side):.2f}%"

    def head(self) -> str:
        """What is compared, in lines."""
        sides = zip(("before", "after"), self.profiles, self.wholes, strict=True)
        lines = [f"{side + ':':7} {len(profile.samples)} samples, weight {whole}" for side, profile, whole in sides]
        lines += [f"{before} before is {after} after" for before, after in self.renamed.items()]
        return "\n".join(lines) + "\n"


def _module_name(path: str) -> str:
    """A module's file name, without the version of a shared library."""
    return _VERSION.sub("", basename(path))


def _ambiguous(profile: StackProfile) -> set[str]:
    """Names that are in several modules."""
    module_of: dict[str, str] = {}
    found = set()
    for function in profile.functions:
        module = _module_name(function.module or "")
        if module_of.setdefault(function.name, module) != module:
            found.add(function.name)
    return found


def _renamed(before: Iterable[str], after: Iterable[str]) -> dict[str, str]:
    """What is only before, and the one that is only after; nothing where there are several to choose from."""
    gone, new = set(before) - set(after), set(after) - set(before)
    return {gone.pop(): new.pop()} if len(gone) == len(new) == 1 else {}
