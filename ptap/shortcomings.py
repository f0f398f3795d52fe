"""What traces lack, module by module, in sentences that say what would mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ptap.account import counted

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from unwind.jit_names import MadeCodeNames
    from unwind.module import Module, ModuleCatalog
    from unwind.symbolize.missing_debug import MissingDebug


class TraceMaker(Protocol):
    """What made traces, as far as it tells what they lack; see `unwind.trace_builder`."""

    frames_without_lines: Counter[Module]
    stacks_without_lines: Counter[Module]

    @property
    def catalog(self) -> ModuleCatalog:
        """The files."""

    @property
    def jit_names(self) -> MadeCodeNames | None:
        """What named code that was made at run time."""

    @property
    def kernel_problems(self) -> list[str]:
        """What the kernel's frames lack."""


def shortcomings(builder: TraceMaker) -> list[str]:
    """What was missing or damaged for the traces that `builder` made, the most missed first."""
    problems: list[str] = []
    ask_for_remedies(each.symbols.missing for each in builder.frames_without_lines if each.symbols is not None)
    for module, frames in builder.frames_without_lines.most_common():
        text = _missing_lines(module, frames, builder.stacks_without_lines.get(module))
        if text is not None:
            problems.append(text)
    for module in builder.catalog.opened():
        problems += _damage(module)
    problems += builder.jit_names.problems if builder.jit_names is not None else []
    return problems + builder.kernel_problems


def ask_for_remedies(found: Iterable[MissingDebug | None]) -> None:
    """Ask what would mend the modules that are about to be told of: of all of them at once."""
    known = [each for each in found if each is not None]
    if known:
        from unwind.symbolize.missing_debug import ask_for_all

        ask_for_all(known)


def _missing_lines(module: Module, frames: int, stacks: int | None) -> str | None:
    """One line on a module whose frames have no lines, None when nothing would give them."""
    if module.symbols is None:
        if module.problem is None:
            return None
        return f"{_frames(frames, stacks)} without names: {module.problem}"
    missing = module.symbols.missing
    return None if missing is None else missing_lines(module.path, frames, stacks, missing)


def missing_lines(path: str, frames: int, stacks: int | None, missing: MissingDebug) -> str:
    """The line on a module without debugging information, in which so many frames of so many stacks lie."""
    build_id = f", build-id {missing.build_id}" if missing.build_id else ", no build-id"
    return f"no line information for {path} ({_frames(frames, stacks)}{build_id}): {missing.remedy}"


def _frames(frames: int, stacks: int | None) -> str:
    """How much it is; None for stacks that nobody counted."""
    return counted(frames, "frame") + ("" if stacks is None else f" in {counted(stacks, 'stack')}")


def _damage(module: Module) -> list[str]:
    """One line for each kind of damage that was met in a module; the rest of it was used."""
    lines = []
    found = module.symbols.problems if "symbols" in module.__dict__ and module.symbols is not None else []
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        lines.append(f"{module.path}: debug information left out: {found[0]}{more}")
    table = module.__dict__.get("table")
    if table is not None and table.skipped_count:
        lines.append(
            f"{module.path}: {table.skipped_count} damaged entries of its call frame information were left out "
            f"(see `ptap tables show {module.path}`)"
        )
    return lines
