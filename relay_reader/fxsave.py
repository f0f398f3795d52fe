"""The FXSAVE area of x86: x87 and SSE registers (Intel SDM volume 1, 10.5.1), as it stands in core files' notes."""

from __future__ import annotations

_ST0, _ST_SIZE = 32, 10
_XMM0, _XMM_SIZE = 160, 16
_SLOT = 16
"""Each register has so many bytes of the area."""


def st_registers(area: bytes, first: int, count: int) -> dict[int, bytes]:
    """10 bytes of each x87 register, st(0) with DWARF number `first`; of an area that holds them all."""
    return {first + index: area[_ST0 + _SLOT * index :][:_ST_SIZE] for index in range(count)}


def xmm_registers(area: bytes, first: int, count: int) -> dict[int, bytes]:
    """16 bytes of each xmm register, xmm0 with DWARF number `first`; of an area that holds them all."""
    return {first + index: area[_XMM0 + _SLOT * index :][:_XMM_SIZE] for index in range(count)}


def area_size(xmm_count: int) -> int:
    """Bytes up to the end of the last of so many xmm registers."""
    return _XMM0 + _SLOT * xmm_count
