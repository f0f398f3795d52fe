"""Call chains and branch stacks of perf samples: which addresses are the kernel's, which the user's, and by whose word.

Owns enum perf_callchain_context and struct perf_branch_entry (linux/perf_event.h): words of a chain are addresses, or
marks that say where those behind them belong.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from relay_reader.capture import ChainSource, ToldChain
from relay_reader.perf_side_band import Buffer

# enum perf_callchain_context, as the unsigned words they are in a chain
_CONTEXT_KERNEL = (1 << 64) - 128
_CONTEXT_USER = (1 << 64) - 512
_CONTEXT_USER_DEFERRED = (1 << 64) - 640
_CONTEXT_GUEST_KERNEL = (1 << 64) - 2176
_CONTEXT_GUEST_USER = (1 << 64) - 2560
_CONTEXT_MAX = (1 << 64) - 4095

_KERNEL_HALF = 1 << 63
DEFAULT_MAX_STACK = 127
"""Addresses of a chain where the event does not say how many (kernel.perf_event_max_stack)."""


@dataclass(frozen=True, slots=True)
class RecordedChain:
    """The addresses of one recorded chain, innermost first."""

    kernel: tuple[int, ...]
    user: tuple[int, ...]
    guest: bool = False
    """They are a guest's."""
    deferred: bool = False
    """The user's part was to follow in a record of its own (PERF_RECORD_CALLCHAIN_DEFERRED)."""


_EMPTY = RecordedChain((), ())


def recorded_chain(words: tuple[int, ...]) -> RecordedChain:
    """The chain that `words` are."""
    if not words:
        return _EMPTY
    kernel: list[int] = []
    user: list[int] = []
    guest = deferred = False
    part: list[int] | None = None
    for word in words:
        if word >= _CONTEXT_MAX:
            part = {
                _CONTEXT_KERNEL: kernel,
                _CONTEXT_USER: user,
                _CONTEXT_GUEST_KERNEL: kernel,
                _CONTEXT_GUEST_USER: user,
            }.get(word)
            guest |= word in (_CONTEXT_GUEST_KERNEL, _CONTEXT_GUEST_USER)
            # What follows that mark is a number that the later record has, too.
            deferred |= word == _CONTEXT_USER_DEFERRED
            part = [] if part is None else part
        elif part is None:  # before any mark
            (kernel if word >= _KERNEL_HALF else user).append(word)
        else:
            part.append(word)
    return RecordedChain(tuple(kernel), tuple(user), guest, deferred)


def frame_pointer_chain(chain: RecordedChain, max_stack: int) -> ToldChain | None:
    """The user's part, which the kernel has found by frame pointers; None without one."""
    if not chain.user:
        return None
    full = len(chain.kernel) + len(chain.user) >= (max_stack or DEFAULT_MAX_STACK)
    return ToldChain(ChainSource.FRAME_POINTERS, chain.user, full)


def branch_chain(buffer: Buffer, at: int, count: int, pc: int | None) -> ToldChain | None:
    """The calls that the processor has recorded (--call-graph lbr): `count` branch entries from `at` on.

    `pc` is where the user's code was interrupted, None where that was not recorded: then where the last call led to
    stands for it, as in perf's own tools. Raises struct.error.
    """
    if not count:
        return None
    words = struct.unpack_from(f"<{3 * count}Q", buffer, at)
    calls = tuple(address for address in words[::3] if 0 < address < _KERNEL_HALF)
    first = pc if pc is not None else words[1]
    # The processor forgets the outermost calls when its records are full, and nothing tells that it did.
    return ToldChain(ChainSource.LAST_BRANCHES, (first, *calls), True)
