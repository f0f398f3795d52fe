"""Probe points in the kernel: the words that users write, in SystemTap's grammar, as data.

kernel.function("NAME[@FILE[:LINE]]")[.call|.return]
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ptap.probe.point import ProbeKind, ProbeSyntaxError

_FUNCTION = re.compile(
    r"""kernel \s* \. \s* function \s*
        \( \s* "(?P<function>[^"@]+)(?:@(?P<file>[^":@]+)(?::(?P<line>\d+))?)?" \s* \) \s*
        (?: \. \s* (?P<variant>call|return) )? \s* $""",
    re.VERBOSE,
)
_EXAMPLE = 'for example kernel.function("vfs_read")'


@dataclass(frozen=True, slots=True)
class KernelPoint:
    """One probe point as written."""

    text: str
    kind: ProbeKind
    function: str
    file: str | None
    line: int | None


def parse_kernel_point(text: str) -> KernelPoint:
    """`text` as a KernelPoint. Raises ProbeSyntaxError."""
    match = _FUNCTION.match(text.strip())
    if match is None:
        raise ProbeSyntaxError(
            f'{text}: no probe point of the kernel; there are kernel.function("NAME@FILE:LINE") and its .call and '
            f".return, {_EXAMPLE}"
        )
    kind = ProbeKind.RETURN if match["variant"] == "return" else ProbeKind.CALL
    line = int(match["line"]) if match["line"] else None
    return KernelPoint(text.strip(), kind, match["function"], match["file"], line)
