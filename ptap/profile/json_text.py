"""Text as JSON may have it: bytes that are not UTF-8, which Python keeps as lone surrogates, become escapes."""

from __future__ import annotations


def json_text(text: str) -> str:
    """`text`, with `\\xNN` for each byte that is no UTF-8 (RFC 8259 §8.1 wants UTF-8)."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
