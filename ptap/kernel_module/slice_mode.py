"""What of the stacks is recorded, as users write it: `none`, `words`, `frames` or `flat:BYTES`."""

from __future__ import annotations

from ptap.kernel_module.messages import DEFAULT_FLAT_BYTES
from relay_reader import record_layout as layout

CHOICES = "none|words|frames|flat:BYTES"


def parse_slices(text: str) -> tuple[layout.Slices, int]:
    """(what, bytes of a flat copy at the most). Raises ValueError, which says what there is."""
    name, colon, count = text.partition(":")
    try:
        kind = layout.Slices[name.upper()]
        size = int(count) if colon else None
    except (KeyError, ValueError):
        raise ValueError(f"{text}: there are {CHOICES}") from None
    if (size is None) is (kind is layout.Slices.FLAT):
        raise ValueError(f"{text}: the number of bytes goes with flat, as in flat:8192")
    if size is not None and not 8 <= size <= layout.MAXIMUM_FLAT_BYTES:
        raise ValueError(f"{text}: 8 to {layout.MAXIMUM_FLAT_BYTES} bytes can be copied")
    return kind, size - size % 8 if size is not None else DEFAULT_FLAT_BYTES
