"""Fields of messages with values that cannot be: the module has to refuse each, with an error and a text."""

from __future__ import annotations

from collections.abc import Iterator

from relay_reader import predicate_layout
from relay_reader import record_layout as layout
from relay_reader.record_layout import MessageKind

_ONES = (1 << 64) - 1
_NOBODY = (1 << 22) - 1
"""No process has that number, so early."""
_OTHER_PROBE_FLAGS = [1 << bit for bit in range(32) if not layout.PROBE_FLAGS >> bit & 1]
_OTHER_START_FLAGS = [1 << bit for bit in range(32) if not layout.START_FLAGS >> bit & 1]
_BODIES = {
    MessageKind.ANCHOR: layout.ANCHOR_MESSAGE_DTYPE,
    MessageKind.PROBE: layout.PROBE_MESSAGE_DTYPE,
    MessageKind.START: layout.START_MESSAGE_DTYPE,
    MessageKind.USER_TABLE: layout.USER_TABLE_MESSAGE_DTYPE,
    MessageKind.SPACE: layout.SPACE_MESSAGE_DTYPE,
    MessageKind.PREDICATE: predicate_layout.PREDICATE_PROGRAM_DTYPE,
    MessageKind.MODULE: layout.MODULE_MESSAGE_DTYPE,
    MessageKind.PLACEMENT: layout.PLACEMENT_MESSAGE_DTYPE,
    MessageKind.TARGET: layout.TARGET_MESSAGE_DTYPE,
}
_LISTED = {MessageKind.SPACE: layout.SPACE_MAPPING_DTYPE, MessageKind.MODULE: layout.MODULE_SECTION_DTYPE}
"""What follows the body of a kind; its first one is changed where a field's name begins with "first."."""
_WRONG = {
    MessageKind.ANCHOR: {"symbol": (0, _ONES)},
    MessageKind.PROBE: {"kind": (0, 99), "symbol": (_ONES,), "flags": _OTHER_PROBE_FLAGS, "reserved": (1,)},
    MessageKind.START: {
        "ring_bytes": (0, 1 << 12, (1 << 16) + 8, 1 << 29),
        "maximum_frames": (0, layout.MAXIMUM_FRAMES + 1, _ONES),
        "slices": (99,),
        "flags": _OTHER_START_FLAGS,
        "flat_bytes": (4, layout.MAXIMUM_FLAT_BYTES + 8),
        "reserved": (1,),
    },
    MessageKind.USER_TABLE: {"id": (0,)},
    MessageKind.SPACE: {
        "generation": (0,),
        "start_stack": (1,),
        "pid": (0, _NOBODY),
        "mapping_count": (1, layout.MAXIMUM_SPACE_MAPPINGS + 1, _ONES),
        "first.start": (0, _ONES),
        "first.end": (0, 1, _ONES),
        "first.file_offset": (_ONES,),
        "first.inode": (0, _ONES),
        "first.table": (_ONES,),
    },
    MessageKind.PREDICATE: {
        "instruction_count": (0, 1, _ONES),
        "set_count": (0, _ONES),
        "range_count": (_ONES,),
        "file_count": (_ONES,),
    },
    MessageKind.MODULE: {
        "number": (1, _ONES),
        "section_count": (0, layout.MAXIMUM_MODULE_SECTIONS + 1, _ONES),
        "name": (_ONES,),
        "first.start": (_ONES,),
        "first.end": (0,),
        "first.first": (_ONES,),
        "first.last": (_ONES,),
    },
    MessageKind.PLACEMENT: {
        "module": (layout.MAXIMUM_MODULES, _ONES),
        "section": (layout.MAXIMUM_MODULE_SECTIONS, _ONES),
        "address": (0, 0x1000, _ONES),
    },
    MessageKind.TARGET: {"pid": (_NOBODY, _ONES)},
}
"""Field -> values; of a number as many bytes as it has, of bytes all of them (the value again and again)."""


def wrong_fields() -> dict[int, list[tuple[str, int, str]]]:
    """Kind of message -> (what, byte in the message, the bytes there as hexadecimal digits)."""
    return {int(kind): list(_changes(kind)) for kind in _WRONG}


def _changes(kind: MessageKind) -> Iterator[tuple[str, int, str]]:
    for name, values in _WRONG[kind].items():
        field, base = name.removeprefix("first."), layout.MESSAGE_HEADER_SIZE
        dtype = _BODIES[kind]
        if field != name:
            dtype, base = _LISTED[kind], base + dtype.itemsize
        assert dtype.fields is not None
        element, offset = dtype.fields[field][:2]
        size = element.itemsize
        for value in values:
            one = min(size, 8)
            whole = (value % (1 << 8 * one)).to_bytes(one, "little") * (size // one)
            yield f"{name} {value:#x}", base + offset, whole.hex()
