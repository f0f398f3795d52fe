"""Which group a tracepoint belongs to, as vmlinux has it: the data from which the kernel fills /sys/kernel/tracing.

struct trace_event_call begins with a list's head, then points to its class, which begins with a pointer to the group's
name (include/linux/trace_events.h). There is none for a tracepoint without an event of its own.
"""

from __future__ import annotations

import re
from functools import lru_cache

from cfi_tables.elf_image import ET_EXEC, ElfImage
from cfi_tables.symbol_table import SymbolTable, symbols

_LIST_HEAD = 16
_LONGEST_NAME = 64
_NAME = re.compile(rb"([\w-]{1,63})\0")


def tracepoint_group(image: ElfImage, name: str) -> str | None:
    """The group of the tracepoint `name` in vmlinux; None where that does not tell. Raises ElfError."""
    table = _symbols(image)
    rows = table.find(f"event_{name}").tolist() if table is not None else []
    if table is None or len(rows) != 1:
        return None
    event_class = _pointer(image, int(table.value[rows[0]]) + _LIST_HEAD)
    match = _NAME.match(image.read(_pointer(image, event_class), _LONGEST_NAME))
    return match[1].decode() if match else None


@lru_cache(maxsize=1)
def _symbols(image: ElfImage) -> SymbolTable | None:
    return symbols(image) if image.file_type == ET_EXEC else None


def _pointer(image: ElfImage, address: int) -> int:
    return int.from_bytes(image.read(address, image.address_size), "little")
