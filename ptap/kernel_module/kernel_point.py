"""Probe points in the kernel: the words that users write, in SystemTap's grammar, as data.

    kernel.function("NAME[@FILE[:LINE]]")[.call|.inline|.return]
    kernel.statement("NAME@FILE:LINE")
    kernel.statement(0xADDRESS)              an instruction, by its address in vmlinux
    module("M").function(…), .statement("…") as of the kernel, in a module, be it loaded or not
    kernel.trace("[GROUP:]NAME")             a tracepoint, with module("M") one of a module
    timer.profile[(HZ)]                      a sample of whatever runs, HZ times a second, on each processor

NAME and FILE take the shell's wildcards. Parsing only; `ptap.kernel_module.resolve` finds the places.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ptap.probe.point import ProbeKind, ProbeSyntaxError
from relay_reader.record_layout import MAXIMUM_FREQUENCY

_CODE = re.compile(
    r"""(?: kernel | module \s* \( \s* "(?P<module>[\w-]+)" \s* \) ) \s*
        \. \s* (?P<what>function|statement) \s*
        \( \s* "(?P<function>[^"@]+)(?:@(?P<file>[^":@]+)(?::(?P<line>\d+))?)?" \s* \) \s*
        (?: \. \s* (?P<variant>call|inline|return) )? \s* $""",
    re.VERBOSE,
)
_ADDRESS = re.compile(r"kernel\s*\.\s*statement\s*\(\s*(?P<address>0[xX][0-9a-fA-F]{1,16})\s*\)\s*$")
_TRACEPOINT = re.compile(
    r"""(?: kernel | module \s* \( \s* "(?P<module>[\w-]+)" \s* \) ) \s*
        \. \s* trace \s* \( \s* "(?:(?P<group>[\w-]+):)?(?P<name>[\w*?\[\]!-]+)" \s* \) \s* $""",
    re.VERBOSE,
)
_TIMER = re.compile(r"timer\s*\.\s*profile\s*(?:\(\s*(?P<frequency>\d+)\s*\))?\s*$")
_EXAMPLE = 'for example kernel.function("vfs_read")'
_WILDCARDS = frozenset("*?[")
_DEFAULT_FREQUENCY = 99


@dataclass(frozen=True, slots=True)
class KernelPoint:
    """One probe point as written."""

    text: str
    kind: ProbeKind
    function: str = "*"
    file: str | None = None
    line: int | None = None
    module: str | None = None
    """The module's name, with underscores as the kernel has it; None for the kernel itself."""
    address: int | None = None
    """For a statement given by address: as in vmlinux."""
    tracepoint: str | None = None
    group: str | None = None
    frequency: int | None = None

    @property
    def is_wild(self) -> bool:
        """Whether it may mean many functions or tracepoints."""
        return bool(_WILDCARDS & set(self.tracepoint or (self.function if self.address is None else "")))

    @property
    def owner(self) -> str:
        """What its code belongs to, in the words of a probe point."""
        return f'module("{self.module}")' if self.module else "kernel"


def parse_kernel_point(text: str) -> KernelPoint:
    """`text` as a KernelPoint. Raises ProbeSyntaxError."""
    stripped = text.strip()
    if match := _CODE.match(stripped):
        return _code_point(stripped, match)
    if match := _ADDRESS.match(stripped):
        return KernelPoint(stripped, ProbeKind.STATEMENT, address=int(match["address"], 16))
    if match := _TRACEPOINT.match(stripped):
        module = _module_name(match["module"])
        return KernelPoint(
            stripped, ProbeKind.TRACEPOINT, module=module, tracepoint=match["name"], group=match["group"]
        )
    if match := _TIMER.match(stripped):
        frequency = int(match["frequency"] or _DEFAULT_FREQUENCY)
        if not 1 <= frequency <= MAXIMUM_FREQUENCY:
            raise ProbeSyntaxError(f"{stripped}: a frequency is 1 to {MAXIMUM_FREQUENCY} samples a second")
        return KernelPoint(stripped, ProbeKind.TIMER, frequency=frequency)
    raise ProbeSyntaxError(
        f'{text}: no probe point of the kernel; there are kernel.function("NAME@FILE:LINE") and its .call, .inline and '
        '.return, kernel.statement("NAME@FILE:LINE"), kernel.trace("NAME"), module("M") in place of kernel, '
        f"and timer.profile(HZ), {_EXAMPLE}"
    )


def _code_point(text: str, match: re.Match[str]) -> KernelPoint:
    line = int(match["line"]) if match["line"] else None
    kind = ProbeKind(match["variant"] or match["what"])
    if match["what"] == "statement":
        if line is None:
            raise ProbeSyntaxError(f'{text}: a statement needs its line: .statement("NAME@FILE:LINE")')
        if match["variant"]:
            raise ProbeSyntaxError(f"{text}: .{match['variant']} goes with .function, {_EXAMPLE}")
    return KernelPoint(text, kind, match["function"], match["file"], line, _module_name(match["module"]))


def _module_name(written: str | None) -> str | None:
    return written.replace("-", "_") if written else None
