"""What the module is told, as the bytes of messages (relay_reader/record_schema.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relay_reader import record_layout as layout
from relay_reader import record_schema as schema

ANCHORS = ("init_task", "register_kprobe", "schedule", "vfree")
"""Symbols whose run-time address the module knows."""
TRAMPOLINES = ("arch_rethook_trampoline", "__kretprobe_trampoline", "kretprobe_trampoline")
"""What return probes put in place of return addresses, by the kernel's release."""

DEFAULT_FLAT_BYTES = 8192
"""As much as perf copies of a stack when nothing else is said."""


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """How the module records."""

    ring_bytes: int = 4 << 20
    """A CPU, a power of two."""
    maximum_frames: int = layout.MAXIMUM_FRAMES
    slices: layout.Slices = layout.Slices.WORDS
    flat_bytes: int = DEFAULT_FLAT_BYTES
    """Of a user stack that is copied as it is, at the most; a multiple of 8."""
    oracle: bool = False
    """Record what the kernel's own unwinder says, too: for tests."""
    forget: bool = False
    """Remember no address from hit to hit: to measure what that costs."""
    user: bool = True
    """Record the user's stack, too."""

    @property
    def flags(self) -> int:
        """Of enum ptap_start_flag."""
        return (
            (layout.START_FLAG_ORACLE if self.oracle else 0)
            | (layout.START_FLAG_FORGET if self.forget else 0)
            | (0 if self.user else layout.START_FLAG_NO_USER)
        )


def message(kind: layout.MessageKind, body: bytes = b"") -> bytes:
    """A message with what its kind has behind it."""
    head: bytes = schema.MESSAGE_HEADER.build(
        {"magic": layout.MESSAGE_MAGIC, "version": layout.RECORD_VERSION, "kind": int(kind)}
    )
    return head + body


def anchor(symbol: str, address: int) -> bytes:
    """Where vmlinux has a symbol."""
    return message(layout.MessageKind.ANCHOR, _build(schema.ANCHOR_MESSAGE, address=address, symbol=symbol))


def table(start: int, end: int, content: bytes) -> bytes:
    """A compact table for the code in [start, end)."""
    return message(layout.MessageKind.TABLE, _build(schema.TABLE_MESSAGE, start=start, end=end) + content)


def trampoline(address: int) -> bytes:
    """Where vmlinux has the trampoline of return probes."""
    return message(layout.MessageKind.TRAMPOLINE, _build(schema.TRAMPOLINE_MESSAGE, address=address))


def probe(
    number: int, kind: layout.ProbeKind, symbol: str, offset: int, address: int, *, optional: bool = False
) -> bytes:
    """A probe at an offset from a symbol, which has to be where vmlinux has `address`."""
    body = _build(
        schema.PROBE_MESSAGE,
        address=address,
        offset=offset,
        number=number,
        kind=int(kind),
        symbol=symbol,
        flags=layout.PROBE_FLAG_OPTIONAL if optional else 0,
        reserved=0,
    )
    return message(layout.MessageKind.PROBE, body)


def predicate(program: bytes) -> bytes:
    """Which stacks are wanted."""
    return message(layout.MessageKind.PREDICATE, program)


@dataclass(frozen=True, slots=True)
class CodeSection:
    """A section of a module's code, by the addresses of its file, with two symbols that tell where it was loaded."""

    name: str
    start: int
    end: int
    first: tuple[int, str]
    """(address, name)."""
    last: tuple[int, str]


def module(number: int, name: str, sections: Sequence[CodeSection], content: bytes) -> bytes:
    """A module, with its compact table if it has one."""
    head = _build(schema.MODULE_MESSAGE, number=number, section_count=len(sections), name=name)
    parts = [
        _build(
            schema.MODULE_SECTION,
            start=each.start,
            end=each.end,
            first_address=each.first[0],
            last_address=each.last[0],
            first=each.first[1],
            last=each.last[1],
        )
        for each in sections
    ]
    return message(layout.MessageKind.MODULE, b"".join([head, *parts, content]))


def placement_head() -> bytes:
    """What the program on the traced machine puts before the place of a section (schema.PLACEMENT_MESSAGE)."""
    return message(layout.MessageKind.PLACEMENT)


def start(options: RecordOptions) -> bytes:
    """Begin to record."""
    body = _build(
        schema.START_MESSAGE,
        ring_bytes=options.ring_bytes,
        maximum_frames=options.maximum_frames,
        slices=int(options.slices),
        flags=options.flags,
        flat_bytes=options.flat_bytes,
        reserved=0,
    )
    return message(layout.MessageKind.START, body)


def stop() -> bytes:
    """Stop recording."""
    return message(layout.MessageKind.STOP)


def _build(structure: Any, **values: Any) -> bytes:
    """The structure's bytes; names are padded to their field, which ends with a zero."""
    for field in structure.subcons:
        value = values[field.name]
        if isinstance(value, str):
            encoded = value.encode()
            if len(encoded) >= field.sizeof():
                raise ValueError(f"{value}: a name of more than {field.sizeof() - 1} bytes")
            values[field.name] = encoded.ljust(field.sizeof(), b"\0")
    built: bytes = structure.build(values)
    return built
