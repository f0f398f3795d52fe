"""Symbolized addresses as lines: text as addr2line -fipC prints it, or JSON Lines in the output contract's shape."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ptap.profile.json_text import json_line
from ptap.report.short_text import printable
from unwind.symbolize.address_source import AddressSource, ModuleLabel
from unwind.symbolize.function_name import readable_name
from unwind.symbolize.index_lookup import AddressFrames, Reason

if TYPE_CHECKING:
    from unwind.arguments.argument_reader import Argument

_ADDRESS = re.compile(r"\s*(?:0[xX])?([0-9a-fA-F]{1,16})\s*")
_NO_ADDRESS = "this is no hexadecimal address, such as 0x1139"
_UNKNOWN = "?? ??:0\n"
_KERNEL = 1 << 63


class SymbolLines:
    """Lines for batches of addresses of one source. What a function is called is made text once."""

    def __init__(self, symbolizer: AddressSource, as_json: bool, with_arguments: bool = False) -> None:
        self._symbolizer = symbolizer
        self._with_arguments = with_arguments
        self._as_json = as_json
        self._functions: dict[tuple[str, str], str] = {}
        self._modules: dict[ModuleLabel, str] = {}

    def of(self, texts: Sequence[str]) -> tuple[str, Counter[str]]:
        """The lines for addresses as people write them, and how many have no frames for which reason."""
        matches = [_ADDRESS.fullmatch(text) for text in texts]
        values = [int(match[1], 16) if match else None for match in matches]
        good = np.array([value for value in values if value is not None], dtype=np.uint64)
        frames = self._symbolizer.frames(good)
        missed = Counter({_NO_ADDRESS: values.count(None)} if None in values else {})
        for reason, count in zip(*np.unique(frames.reasons, return_counts=True), strict=True):
            if reason != Reason.FOUND:
                missed[Reason(int(reason)).text] += int(count)
        found = self._json(frames, good) if self._as_json else self._text(frames, good)
        if len(good) < len(values):
            lines = iter(found)
            found = [self._no_address(text) if value is None else next(lines)
                     for text, value in zip(texts, values, strict=True)]  # fmt: skip
        return "".join(found), missed

    def _no_address(self, text: str) -> str:
        return self._trace("bad_address", "") if self._as_json else _UNKNOWN

    def _function(self, name: str, file: str) -> str:
        """The part of a frame's text that is the same for all frames of a function."""
        text = self._functions.get((name, file))
        if text is None:
            shown = readable_name(name) if name else None
            if self._as_json:
                text = f'"function": {json_line(shown)}, "offset": %s, '
                text = text.replace("%", "%%").replace('"offset": %%s', '"offset": %s')
                text += f'"file": {json_line(file or None)}'.replace("%", "%%")
            elif self._symbolizer.names_with_offsets:
                text = f"{shown or '??'}\0 at {file or '??'}:"
                text = "%s".join(printable(part).replace("%", "%%") for part in text.split("\0", 1))
            else:
                text = printable(f"{shown or '??'} at {file or '??'}:")
            self._functions[name, file] = text
        return text

    def _function_texts(self, frames: AddressFrames) -> tuple[list[str], list[int]]:
        """The text of each function in the batch, and which of them each frame has."""
        _, firsts, inverse = np.unique(frames.functions, return_index=True, return_inverse=True)
        texts = [
            self._function(frames.name_table[name], frames.file_table[file])
            for name, file in zip(frames.names[firsts].tolist(), frames.files[firsts].tolist(), strict=True)
        ]
        return texts, inverse.tolist()

    def _arguments(self, frames: AddressFrames, addresses: NDArray[np.uint64]) -> list[list[Argument]]:
        """The parameters of every frame of the batch; none of any where they are not asked for."""
        bounds = frames.offsets.tolist()
        found: list[list[Argument]] = [[] for _ in range(bounds[-1])]
        if not self._with_arguments:
            return found
        for address, low, high in zip(addresses.tolist(), bounds, bounds[1:], strict=False):
            of_frames = self._symbolizer.arguments(address)
            if len(of_frames) == high - low:
                found[low:high] = of_frames
        return found

    def _text(self, frames: AddressFrames, addresses: NDArray[np.uint64]) -> list[str]:
        if self._symbolizer.names_with_offsets:
            parts = self._parts_with_offsets(frames, addresses)
        else:
            texts, which = self._function_texts(frames)
            parts = [f"{texts[at]}{line or '?'}\n" for at, line in zip(which, frames.lines.tolist(), strict=True)]
        if self._with_arguments:
            parts = [
                _with_arguments(part, frames.name_table[name], arguments)
                for part, name, arguments in zip(
                    parts, frames.names.tolist(), self._arguments(frames, addresses), strict=True
                )
            ]
        bounds = frames.offsets.tolist()
        return [
            " (inlined by) ".join(parts[low:high]) if high > low else _UNKNOWN
            for low, high in itertools.pairwise(bounds)
        ]

    def _parts_with_offsets(self, frames: AddressFrames, addresses: NDArray[np.uint64]) -> list[str]:
        """A line for each frame; a name without a source line has its offset, code of a module that module's name."""
        texts, which = self._function_texts(frames)
        offsets = self._symbolizer.function_offsets(addresses).tolist()
        labels = self._symbolizer.labels(addresses)
        bounds, lines = frames.offsets.tolist(), frames.lines.tolist()
        parts = []
        for index, (low, high) in enumerate(itertools.pairwise(bounds)):
            name = labels[index].name
            module = f" [{printable(name)}]" if "/" not in name and not name.startswith("[") else ""
            for at in range(low, high):
                shown = not lines[at] and offsets[index] >= 0 and not frames.inlined[at]
                offset = f"+{offsets[index]:#x}" if shown else ""
                parts.append(f"{texts[which[at]] % (offset + module)}{lines[at] or '?'}\n")
        return parts

    def _module(self, label: ModuleLabel) -> str:
        text = self._modules.get(label)
        if text is None:
            module = json_line(label.name)
            text = self._modules[label] = f'"module": {module}, "build_id": {json.dumps(label.build_id)}'
        return text

    def _json(self, frames: AddressFrames, addresses: NDArray[np.uint64]) -> list[str]:
        texts, which = self._function_texts(frames)
        offsets = self._symbolizer.function_offsets(addresses).tolist()
        lines, columns, inlined = frames.lines.tolist(), frames.columns.tolist(), frames.inlined.tolist()
        bounds = frames.offsets.tolist()
        modules = [self._module(label) for label in self._symbolizer.labels(addresses)]
        arguments = self._arguments(frames, addresses)
        found = []
        for index, address in enumerate(addresses.tolist()):
            space = "kernel" if address >= _KERNEL else "user"
            head = f'{{"space": "{space}", "address": "{address:#x}", {modules[index]}, '
            parts = []
            for at in range(bounds[index], bounds[index + 1]):
                offset = "null" if inlined[at] or offsets[index] < 0 else offsets[index]
                parts.append(
                    f'{head}{texts[which[at]] % offset}, "line": {lines[at] or "null"}, '
                    f'"column": {columns[at] or "null"}, "inlined": {"true" if inlined[at] else "false"}, '
                    f'"arguments": {_json_arguments(arguments[at])}}}'
                )
            stop = "end_of_stack"
            if not parts:
                stop = Reason(int(frames.reasons[index])).name.lower()
                parts.append(
                    f'{head}"function": null, "offset": null, "file": null, "line": null, "column": null, '
                    '"inlined": false, "arguments": []}'
                )
            found.append(self._trace(stop, ", ".join(parts)))
        return found

    def _trace(self, stop: str, frames: str) -> str:
        return (
            '{"probe": null, "time_ns": 0, "cpu": 0, "pid": 0, "tid": 0, "comm": "", "weight": 1, '
            f'"stop": "{stop}", "frames": [{frames}]}}\n'
        )


def _with_arguments(line: str, symbol: str, arguments: Sequence[Argument]) -> str:
    """A frame's line with its parameters behind the function's name, instead of a demangled name's own."""
    if not symbol:
        return line
    name = printable(readable_name(symbol))
    rest = line.removeprefix(name)
    listed = ", ".join(_argument_text(each) for each in arguments)
    return f"{_without_parameters(name)}({listed}){rest}"


def _without_parameters(name: str) -> str:
    """`ns::f` of the demangled `ns::f(int, char*) const`; what is in parentheses elsewhere stays."""
    end = name.rfind(")")
    if end < 0 or name[end + 1 :].strip() not in ("", "const", "volatile", "const volatile", "&", "&&", "const &"):
        return name
    depth = 0
    for at in range(end, -1, -1):
        depth += {")": 1, "(": -1}.get(name[at], 0)
        if depth == 0:
            return name[:at] if at else name
    return name


def _argument_text(argument: Argument) -> str:
    text = f"{argument.type} {argument.name}" if argument.type else argument.name
    return printable(text if argument.value is None else f"{text}={argument.value}")


def _json_arguments(arguments: Sequence[Argument]) -> str:
    if not arguments:
        return "[]"
    from ptap.report.json_lines import argument_object

    return json_line([argument_object(each) for each in arguments])
