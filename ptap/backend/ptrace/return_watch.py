"""Calls under way whose return is probed, one list a thread.

The return address on the stack is never changed: a breakpoint stands at the place that it names, and a hit there
counts for a call when the stack pointer is where that call's return leaves it. So recursion, other callers of
the same place and longjmp are told apart, and a walk from inside sees the true return address.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ptap.backend.ptrace.address_space import AddressSpace
from ptap.backend.ptrace.memory_map import read_memory_map


@dataclass(frozen=True, slots=True)
class _Call:
    stack_pointer: int
    """rsp after the return: 8 above the slot that holds the return address (System V ABI AMD64 §3.2.2)."""
    return_address: int
    places: tuple[int, ...]


@dataclass(slots=True)
class ReturnWatch:
    """The watched calls of one thread, oldest first."""

    calls: list[_Call] = field(default_factory=list)

    def enter(
        self, tid: int, space: AddressSpace, entry_stack: int, return_address: int, places: tuple[int, ...]
    ) -> bool:
        """A call begins, with rsp at `entry_stack`. False when no breakpoint can be set where it returns.

        An older call with the same stack slot is over when it was for the same function or had another return
        address: its frame was left by longjmp or an exception, and the slot is used anew. Otherwise the older
        function has jumped to this one (a tail call), and both return together.
        """
        stack_pointer = entry_stack + 8
        self._drop_left(tid, space, stack_pointer)
        over = [
            call
            for call in self.calls
            if call.stack_pointer == stack_pointer and (call.return_address != return_address or call.places == places)
        ]
        point = space.insert(return_address)
        if point is None or (point.taken and _is_trampoline(tid, return_address)):
            return False
        point.awaited += 1
        self.calls.append(_Call(stack_pointer, return_address, places))
        self._drop(space, over)
        return True

    def arrive(self, tid: int, space: AddressSpace, address: int, stack_pointer: int) -> tuple[int, ...]:
        """The return places of the calls that have just returned to `address`, oldest call first."""
        if not self.calls:
            return ()
        hit = [c for c in self.calls if c.return_address == address and c.stack_pointer == stack_pointer]
        self._drop(space, hit)
        self._drop_left(tid, space, stack_pointer)
        return tuple(place for call in hit for place in call.places)

    def copy_to(self, child: ReturnWatch, space: AddressSpace) -> None:
        """A forked thread returns from the same calls as its parent, in its own address space."""
        child.calls = list(self.calls)
        for call in child.calls:
            point = space.insert(call.return_address)
            if point is not None:
                point.awaited += 1

    def clear(self, space: AddressSpace) -> None:
        """The thread is gone."""
        self._drop(space, list(self.calls))

    def _drop(self, space: AddressSpace, calls: list[_Call]) -> None:
        # The breakpoint stays: the next call from the same place is likely to need it. It is taken out when a
        # thread comes by for which nothing waits there.
        for call in calls:
            self.calls.remove(call)
            point = space.breakpoints.get(call.return_address)
            if point is not None and point.awaited:
                point.awaited -= 1

    def _drop_left(self, tid: int, space: AddressSpace, stack_pointer: int) -> None:
        below = [call for call in self.calls if call.stack_pointer < stack_pointer]
        if not below:
            return
        # Frames below the stack pointer are gone if they are on the same stack; a call that waits on another
        # one (a coroutine's, the one that a signal handler on its own stack has interrupted) is not.
        try:
            rows, _ = read_memory_map(tid)
        except OSError:
            return
        stack = next((row for row in rows if row.start <= stack_pointer - 8 < row.end), None)
        if stack is not None:
            self._drop(space, [call for call in below if stack.start <= call.stack_pointer - 8])


def _is_trampoline(tid: int, address: int) -> bool:
    """Whether a call returns to what the kernel's uretprobes have put in place of the return address.

    That is an int3 too (kernel/events/uprobes.c), whose hits the kernel keeps to itself.
    """
    try:
        rows, _ = read_memory_map(tid)
    except OSError:
        return False
    return any(row.start <= address < row.end and row.path == "[uprobes]" for row in rows)
