"""How much of a thread's stack is copied: from its stack pointer to where its stack begins, as far as that is known.

The kernel's mapping of the program's stack ends there. Of another thread, glibc and musl keep the thread's own block,
which the fs register points to, above its stack in one mapping. Any other stack (a signal handler's, a coroutine's, a
goroutine's) lies in memory that may go on for long: of that a part is copied.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from ptap.backend.ptrace.memory_map import MapRow

_RED_ZONE = 128
"""Bytes below the stack pointer that a function may use (System V ABI AMD64, §3.2.2)."""
_LARGEST_STACK = 64 << 20
LARGEST_UNKNOWN = 1 << 20
"""Bytes that are copied of a stack of which no end is known."""
_PAGE = 4096


def row_at(rows: Sequence[MapRow], address: int) -> MapRow | None:
    """The mapping that holds `address`."""
    index = bisect_right(rows, address, key=lambda row: row.start) - 1
    return rows[index] if index >= 0 and address < rows[index].end else None


def stack_extent(rows: Sequence[MapRow], stack_pointer: int, thread_block: int) -> tuple[int, int]:
    """(address, size) of the stack in use; `thread_block` is fs's base. Size 0 where nothing is mapped."""
    row = row_at(rows, stack_pointer)
    if row is None:
        return stack_pointer, 0
    begin = max(stack_pointer - _RED_ZONE & ~7, row.start)
    return begin, _end(row, stack_pointer, thread_block) - begin


def home_extent(
    rows: Sequence[MapRow], is_first: bool, thread_block: int, stack_pointer: int, words: Sequence[int]
) -> tuple[int, int]:
    """(address, size) of what is in use of the thread's own stack while it runs on another one; size 0 for nothing.

    A signal's frame on the other stack holds the interrupted stack pointer, so that the lowest one of `words`, which
    lie on that stack, that points into its own is not above it.
    """
    if is_first:
        home = next((row for row in rows if row.path == "[stack]"), None)
    else:
        home = row_at(rows, thread_block)
    if home is None or home.start <= stack_pointer < home.end:
        return 0, 0
    lowest = min((word for word in words if home.start <= word < home.end), default=None)
    if lowest is None:
        return 0, 0
    begin = max(lowest - _RED_ZONE & ~7, home.start)
    return begin, _end(home, lowest, thread_block) - begin


def _end(row: MapRow, stack_pointer: int, thread_block: int) -> int:
    if stack_pointer < thread_block < row.end:
        return min(thread_block + _PAGE & ~(_PAGE - 1), row.end, stack_pointer + _LARGEST_STACK)
    return min(row.end, stack_pointer + (_LARGEST_STACK if row.path == "[stack]" else LARGEST_UNKNOWN))
