"""Objects that debugging information gives as constants (DW_AT_const_value, DWARF 5 §2.13.3, §4.1 item 10)."""

from __future__ import annotations

from unwind.arguments.unavailable import malformed

_LARGEST = 1 << 16


def constant_data(constant: int | str | bytes, size: int) -> bytes:
    """The bytes of an object of `size` bytes that DW_AT_const_value gives. Raises Unavailable."""
    if isinstance(constant, str):
        data = constant.encode("utf-8", "surrogateescape") + b"\0"
    elif isinstance(constant, bytes):
        data = constant
    else:
        if size > _LARGEST:
            raise malformed("a number is the constant of a large object")
        return (int(constant) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    if len(data) < size:
        raise malformed("a constant is smaller than its type")
    return data[:size]
