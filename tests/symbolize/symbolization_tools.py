"""llvm-symbolizer and binutils' addr2line as oracles: frames of many addresses of a file, innermost first."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ToolFrame:
    """What a tool says of one frame; None is what it does not know."""

    function: str | None
    file: str | None
    line: int | None
    column: int | None
    """Always None from addr2line, which tells none."""


def _answer(command: list[str], addresses: Sequence[int]) -> str:
    text = "".join(f"{address:#x}\n" for address in addresses)
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def llvm_frames(tool: str, path: Path, addresses: Sequence[int]) -> list[list[ToolFrame]]:
    """llvm-symbolizer's frames, with demangled names. A frame of which it knows nothing is left out."""
    answer = _answer([tool, "--inlines", "--output-style=JSON", "-e", str(path)], addresses)
    found = []
    for line in answer.splitlines():
        frames = [
            ToolFrame(
                each["FunctionName"] or None, each["FileName"] or None, each["Line"] or None, each["Column"] or None
            )
            for each in json.loads(line)["Symbol"]
        ]
        found.append([each for each in frames if each != ToolFrame(None, None, None, None)])
    assert len(found) == len(addresses)
    return found


def addr2line_frames(tool: str, path: Path, addresses: Sequence[int]) -> list[list[ToolFrame]]:
    """addr2line's frames, with the names of symbols. A frame of which it knows nothing is left out."""
    found: list[list[ToolFrame]] = []
    lines = iter(_answer([tool, "-a", "-f", "-i", "-e", str(path)], addresses).splitlines())
    for line in lines:
        if re.fullmatch("0x[0-9a-f]{16}", line):
            found.append([])
            continue
        file, _, number = re.sub(r" \(discriminator \d+\)$", "", next(lines)).rpartition(":")
        frame = ToolFrame(
            None if line == "??" else line,
            None if file == "??" else file,
            int(number) if number not in ("?", "0") else None,
            None,
        )
        if frame != ToolFrame(None, None, None, None):
            found[-1].append(frame)
    assert len(found) == len(addresses)
    return found
