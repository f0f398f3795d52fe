"""What the parameters of commands are completed to: by what their help calls their values (their metavars).

A new option whose value is a PID, a PROBE or a FILE is completed without a word here. Choices, and whatever else click
completes by itself, stay with click.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem

from ptap.shell_completion.candidate import Candidate

PART = "part"
"""The type of an item that is no whole word; of click's own are `plain`, `file` and `dir`."""
_FILE = (CompletionItem("", type="file"),)
_FOLDER = (CompletionItem("", type="dir"),)
_TERMS = ('caller("', 'direct_caller("', 'called_from("', 'user_caller("', "depth() > ", "kernel_depth() > ",
          "user_depth() > ", "pid() == ", "tid() == ", 'comm() == "')  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """What the context of a completed command has as its object: the words that click does not tell."""

    before: tuple[str, ...] = ()
    """Those before the cursor."""
    target: tuple[str, ...] = ()
    """The command behind `--`, where it stands behind the cursor already."""


def line_of(ctx: click.Context) -> Line:
    """The line that is completed."""
    return ctx.obj if isinstance(ctx.obj, Line) else Line()


Values = Callable[[click.Context, str], Sequence[CompletionItem[str]]]


def values_completed(command: click.Command) -> click.Command:
    """`command`, with values of its parameters (and of its own commands) that the shell can be told."""
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        values_completed(each)
    for parameter in command.params:
        values = _values_of(parameter)
        if values is not None and not isinstance(parameter.type, (click.Choice, _CompletedType)):
            parameter.type = _CompletedType(parameter.type, values)
    return command


class _CompletedType(click.ParamType[Any]):
    """A parameter's type, whose values are completed by `values`."""

    def __init__(self, inner: click.ParamType[Any], values: Values) -> None:
        self.name = inner.name
        self._inner = inner
        self._values = values

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._inner.convert(value, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:  # fmt: skip
        return list(self._values(ctx, incomplete))


def _values_of(parameter: click.Parameter) -> Values | None:
    name = (parameter.metavar or "").strip("[].")
    if name == "FILE" and isinstance(parameter, click.Argument):
        return _captures
    return _VALUES.get(name)


def _items(candidates: Sequence[Candidate]) -> list[CompletionItem[str]]:
    return [CompletionItem(each.value, "plain" if each.whole else PART, each.meaning) for each in candidates]


def _probes(ctx: click.Context, incomplete: str) -> Sequence[CompletionItem[str]]:
    from ptap.shell_completion.probe_words import ProbedProgram, complete_probe

    target = line_of(ctx).target
    program = ProbedProgram(target[0] if target else None, tuple(_pids(ctx)), ctx.params.get("vmlinux"))
    return _items(complete_probe(incomplete, program))


def _processes(_: click.Context, incomplete: str) -> Sequence[CompletionItem[str]]:
    from ptap.shell_completion.process_list import processes

    return _items(processes(incomplete))


def _threads(ctx: click.Context, incomplete: str) -> Sequence[CompletionItem[str]]:
    from ptap.shell_completion.process_list import threads

    return _items(threads(_pids(ctx), incomplete))


def _pids(ctx: click.Context) -> list[int]:
    """The processes that the words before the cursor name."""
    named = [*(ctx.params.get("pids") or ()), ctx.params.get("pid")]
    # Of a line that ends with an option that has no value yet, click has read nothing.
    written = [int(each) for each in line_of(ctx).before if each.isdigit() and os.path.isdir(f"/proc/{each}")]
    return [each for each in named if isinstance(each, int)] or written


def _captures(_: click.Context, incomplete: str) -> Sequence[CompletionItem[str]]:
    from ptap.shell_completion.capture_files import capture_files

    found = capture_files(incomplete)
    return _FILE if found is None else _items(found)


def _terms(_: click.Context, incomplete: str) -> Sequence[CompletionItem[str]]:
    """The last word of a predicate."""
    begin = incomplete[: max(incomplete.rfind(" "), incomplete.rfind("(")) + 1]
    if '"' in incomplete[len(begin) :]:
        return ()
    return _items([Candidate(begin + each, False) for each in _TERMS if each.startswith(incomplete[len(begin) :])])


_VALUES: dict[str, Values] = {
    "PROBE": _probes,
    "PID": _processes,
    "TID": _threads,
    "PREDICATE": _terms,
    "DIR": lambda *_: _FOLDER,
    **dict.fromkeys(("FILE", "CAPTURE", "ELF", "PROGRAM", "VMLINUX", "A", "B", "ADDRESS... | LOG"), lambda *_: _FILE),
}
