"""What `ptap list` shows of places in a kernel: file and line, and the symbol and offset that a probe is set by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptap.kernel_module.module_files import ModuleFiles
    from ptap.kernel_module.places import KernelPlace

_WIDEST = 90


def list_kernel(texts: Sequence[str], vmlinux: str, system_map: str | None, modules: ModuleFiles) -> list[KernelPlace]:
    """The places of the probe points. Raises ProbeSyntaxError, ProbeNotFound, ElfError and OSError."""
    from cfi_tables.image_file import open_image
    from ptap.kernel_module.kernel_point import parse_kernel_point
    from ptap.kernel_module.resolve import KernelResolver

    points = [parse_kernel_point(text) for text in texts]
    resolver = KernelResolver(open_image(vmlinux), system_map, modules)
    return [place for point in points for place in resolver.places(point, with_lines=True)]


def kernel_json(place: KernelPlace) -> str:
    """One object a place."""
    return json.dumps(
        {
            "probe": place.name,
            "module": place.point.module or "[kernel]",
            "address": None if place.is_event else f"{place.address:#x}",
            "symbol": place.symbol or None,
            "offset": place.offset,
            "file": place.file,
            "line": place.line,
            "inlined_into": place.inlined_into,
        }
    )


def kernel_text(places: Sequence[KernelPlace]) -> list[str]:
    """One line a place, in columns as long as names are of usual length."""
    from ptap.report.short_text import printable

    width = min(max((len(each.name) for each in places), default=0), _WIDEST)
    lines = []
    for each in places:
        position = f"{each.file}:{each.line}" if each.file else "(no line information)"
        inlined = f"  inlined into {each.inlined_into}" if each.inlined_into else ""
        if each.is_event:
            position = "(an event of the kernel)"
        lines.append(printable(f"{each.name:<{width}}  {each.reached}  {position}{inlined}"))
    return lines
