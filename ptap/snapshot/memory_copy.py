"""Copies of another process's memory: many pieces by one system call, process_vm_readv(2).

Where that is refused although the process is traced (by a container's seccomp filter), /proc/PID/mem does it.
"""

from __future__ import annotations

import ctypes
import os
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress

_PIECES_AT_ONCE = 1024
"""UIO_MAXIOV."""
_PAGE = 4096


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_libc = ctypes.CDLL(None, use_errno=True)
_read = _libc.process_vm_readv
_read.restype = ctypes.c_ssize_t
_read.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong)


class CopiedMemory:
    """Pieces of one process's memory, as they all were at one moment."""

    def __init__(self) -> None:
        self._added: list[tuple[int, memoryview]] = []
        self._starts: list[int] = []
        self._pieces: list[memoryview] = []

    def add(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        """Add copies: (address, bytes) each."""
        self._added += pieces

    def read(self, address: int, size: int) -> bytes:
        """Up to `size` bytes at `address`; b"" or fewer where no copy was made."""
        if self._added:
            self._sort()
        found = b""
        while size > 0:
            index = bisect_right(self._starts, address) - 1
            if index < 0:
                break
            begin = address - self._starts[index]
            part = bytes(self._pieces[index][begin : begin + size])
            if not part:
                break
            found += part
            address += len(part)
            size -= len(part)
        return found

    def _sort(self) -> None:
        """Take in what was added: by address, each byte once."""
        pieces = sorted([*zip(self._starts, self._pieces, strict=True), *self._added], key=lambda each: each[0])
        self._added, self._starts, self._pieces = [], [], []
        end = 0
        for start, data in pieces:
            rest = data[max(end - start, 0) :]
            if rest:
                self._starts.append(max(start, end))
                self._pieces.append(rest)
                end = max(start, end) + len(rest)


def copy_memory(pid: int, pieces: Sequence[tuple[int, int]]) -> list[tuple[int, memoryview]]:
    """Copies of `pieces`, (address, size) each, in their order; shorter where memory ends or cannot be read."""
    found: list[tuple[int, memoryview]] = []
    while len(found) < len(pieces):
        found += _copy_some(pid, pieces[len(found) : len(found) + _PIECES_AT_ONCE])
    return found


def _copy_some(pid: int, pieces: Sequence[tuple[int, int]]) -> list[tuple[int, memoryview]]:
    """Copies of the first ones of `pieces`: of all up to the first that cannot be read whole, which is cut."""
    total = sum(size for _, size in pieces)
    buffer = bytearray(max(total, 1))
    local = _Vector(ctypes.addressof(ctypes.c_char.from_buffer(buffer)), total)
    remote = (_Vector * len(pieces))(*(_Vector(address, size) for address, size in pieces))
    got = _read(pid, ctypes.addressof(local), 1, ctypes.addressof(remote), len(pieces), 0)
    view = memoryview(buffer).toreadonly()
    found = []
    begin = 0
    for address, size in pieces:
        if begin + size > got:
            # The first page that is not there ends the call.
            part = view[begin : max(got, begin)]
            found.append((address, part if len(part) else _copy_by_file(pid, address, size)))
            break
        found.append((address, view[begin : begin + size]))
        begin += size
    return found


def _copy_by_file(pid: int, address: int, size: int) -> memoryview:
    """What can be read of a piece by /proc/PID/mem, from its beginning."""
    found = b""
    with suppress(OSError, OverflowError):
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            while len(found) < size:
                part = os.pread(memory, size - len(found), address + len(found))
                if not part:
                    break
                found += part
        finally:
            os.close(memory)
    return memoryview(found)
