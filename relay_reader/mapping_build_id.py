"""Build-ids that a capture tells of files rather than of mappings: put to the mappings of these files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from relay_reader.capture import KERNEL_PID, MappingAdded

_KERNEL_NAME = re.compile(r"(\[kernel\.[a-z]+\]).+")


def with_build_id(event: MappingAdded, build_id_of: Callable[[str], bytes | None]) -> MappingAdded:
    """The event with the build-id that `build_id_of` knows for its file; as it is where that knows none."""
    path = event.mapping.path
    if event.pid == KERNEL_PID:
        # The kernel's own mapping has a symbol's name behind its own: [kernel.kallsyms]_text.
        path = _KERNEL_NAME.sub(r"\1", path)
    build_id = build_id_of(path)
    return replace(event, mapping=replace(event.mapping, build_id=build_id)) if build_id else event
