"""What one request may cost: everything that a stranger could make large or slow has its number here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    arrival_seconds: float = 15
    """Until a request is there, from its connection's beginning to the last byte of its body."""
    stall_seconds: float = 120
    """Until whoever asked has taken a part of the answer."""
    answer_seconds: float = 60
    """Until symbols, sources or facts are given."""
    report_seconds: float = 240
    """Until a report is given, less than browsers wait; it goes on being made, and the next one who asks has it."""
    request_bytes: int = 8 << 20
    connections: int = 32
    """At once; more are told to come back."""
    addresses: int = 250_000
    """In one request for symbols."""
    modules: int = 20_000
    answer_bytes: int = 64 << 20
    """Of one answer with symbols: a few addresses in many stacks may have many inlined calls each."""
    source_bytes: int = 16 << 20
    kept_report_bytes: int = 256 << 20
    """Of all reports together that are kept to be shown again."""
    open_modules: int = 64
    """Whose symbols are kept open."""
