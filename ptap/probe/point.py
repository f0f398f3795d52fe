"""Probe points: the words that users write, in SystemTap's grammar, as data.

    process("PATH").function("NAME[@FILE[:LINE]]")[.call|.inline|.return]
    process("PATH").statement("NAME@FILE:LINE")
    process("PATH").statement(0xADDRESS)     an instruction, by its address in the file
    process.function("NAME")                 the command itself
    kernel.trace("GROUP:NAME")               a kernel tracepoint
    timer.profile(HZ)                        a sample of whatever runs, HZ times a second

NAME and FILE take the shell's wildcards. Parsing only; `ptap.probe.resolve` finds the places.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class ProbeSyntaxError(ValueError):
    """A probe point cannot be understood; the text says where, and shows a form that can."""


class ProbeKind(Enum):
    """What a probe point asks for."""

    FUNCTION = "function"
    """Function entries and inlined copies."""
    CALL = "call"
    """Function entries only."""
    INLINE = "inline"
    """Inlined copies only."""
    RETURN = "return"
    STATEMENT = "statement"
    TRACEPOINT = "tracepoint"
    TIMER = "timer"


@dataclass(frozen=True, slots=True)
class ProbePoint:
    """One probe point as written."""

    text: str
    kind: ProbeKind
    path: str | None = None
    """The program or library; None for the command itself and for probes of no process."""
    function: str = "*"
    file: str | None = None
    line: int | None = None
    address: int | None = None
    """For a statement given by address: the file virtual address."""
    tracepoint: str | None = None
    frequency: int | None = None


_PROCESS = re.compile(
    r"""process \s* (?: \( \s* "(?P<path>[^"]+)" \s* \) )? \s*
        \. \s* (?P<what>function|statement) \s* \( \s* "(?P<pattern>[^"]*)" \s* \) \s*
        (?: \. \s* (?P<variant>call|inline|return) )? \s* $""",
    re.VERBOSE,
)
_ADDRESS = re.compile(
    r"""process \s* (?: \( \s* "(?P<path>[^"]+)" \s* \) )? \s*
        \. \s* statement \s* \( \s* (?P<address>0[xX][0-9a-fA-F]{1,16}) \s* \) \s* $""",
    re.VERBOSE,
)
_TRACEPOINT = re.compile(r"""kernel \s* \. \s* trace \s* \( \s* "(?P<name>[\w.-]+:[\w.-]+)" \s* \) \s* $""", re.VERBOSE)
_TIMER = re.compile(r"timer\s*\.\s*profile\s*(?:\(\s*(?P<frequency>\d+)\s*\))?\s*$")
_PATTERN = re.compile(r"(?P<function>[^@]+)(?:@(?P<file>[^@]*?)(?::(?P<line>\d+))?)?$")

_EXAMPLE = 'for example process("/usr/bin/ls").function("main")'
_DEFAULT_FREQUENCY = 99


def parse_probe_point(text: str) -> ProbePoint:
    """`text` as a ProbePoint. Raises ProbeSyntaxError with an example of what was probably meant."""
    stripped = text.strip()
    if match := _PROCESS.match(stripped):
        return _process_probe(stripped, match)
    if match := _ADDRESS.match(stripped):
        return ProbePoint(stripped, ProbeKind.STATEMENT, match["path"], address=int(match["address"], 16))
    if match := _TRACEPOINT.match(stripped):
        return ProbePoint(stripped, ProbeKind.TRACEPOINT, tracepoint=match["name"])
    if match := _TIMER.match(stripped):
        frequency = int(match["frequency"] or _DEFAULT_FREQUENCY)
        if not 1 <= frequency <= 100_000:
            raise ProbeSyntaxError(f"{stripped}: a frequency is 1 to 100000 samples a second")
        return ProbePoint(stripped, ProbeKind.TIMER, frequency=frequency)
    raise ProbeSyntaxError(f"{stripped}: {_what_is_wrong(stripped)}")


def _process_probe(text: str, match: re.Match[str]) -> ProbePoint:
    pattern = _PATTERN.match(match["pattern"])
    if pattern is None:
        raise ProbeSyntaxError(f'{text}: "{match["pattern"]}" is not NAME, NAME@FILE or NAME@FILE:LINE')
    line = int(pattern["line"]) if pattern["line"] else None
    if match["what"] == "statement":
        if line is None:
            raise ProbeSyntaxError(f'{text}: a statement needs its line: .statement("NAME@FILE:LINE")')
        if match["variant"]:
            raise ProbeSyntaxError(f'{text}: .{match["variant"]} goes with .function("NAME")')
        kind = ProbeKind.STATEMENT
    else:
        kind = ProbeKind(match["variant"] or "function")
    return ProbePoint(text, kind, match["path"], pattern["function"], pattern["file"] or None, line)


def _what_is_wrong(text: str) -> str:
    if text.startswith(("kernel", "module")):
        return (
            "kernel functions cannot be probed by this version; there are "
            'process("PATH").function("NAME"), kernel.trace("GROUP:NAME") and timer.profile(HZ)'
        )
    if text.startswith("process"):
        if '"' not in text:
            return f"names stand in double quotes, the whole probe in single ones for the shell: {_EXAMPLE}"
        return f'expected process("PATH").function("NAME") or .statement("NAME@FILE:LINE"), {_EXAMPLE}'
    if "(" not in text and "." not in text.strip("./"):
        return f"no probe point; a command to run goes behind `--`, and a probe looks like this: {_EXAMPLE[12:]}"
    return f"no probe point; it begins with process, kernel.trace or timer.profile, {_EXAMPLE}"
