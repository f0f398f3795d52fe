"""Text as JSON may have it: bytes that are not UTF-8, which Python keeps as lone surrogates, become escapes.

RFC 8259 §8.1 wants UTF-8; the escape of half a surrogate pair is what many readers refuse the whole line for.
"""

from __future__ import annotations

import json
import re

_BYTE = re.compile("[\udc80-\udcff]")


def json_text(text: str) -> str:
    """`text`, with `\\xNN` for each byte that is no UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def json_line(value: object) -> str:
    """`value` as JSON on one line, its texts as `json_text` has them."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isascii() else _BYTE.sub(lambda match: f"\\\\x{ord(match[0]) & 0xFF:02x}", text)
