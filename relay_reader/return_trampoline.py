"""Return trampolines of uprobes, replaced by the return addresses that they hide.

While a return-probed call runs, the kernel keeps the address of a trampoline in the call's return-address slot
on the stack (kernel/events/uprobes.c, prepare_uretprobe); it lies in the process's `[uprobes]` mapping, and a walk
would end there. This module remembers, per thread, what each slot held when the call was entered, and puts it
back into the stack slices of later samples. Events and entry hits come from a capture source in time order.

Only a word that equals the trampoline's address at a slot whose entry was seen is replaced. After lost records
an entry may be missing, so what was remembered until then is forgotten: an unknown caller is better than a wrong
one.
"""

from __future__ import annotations

from relay_reader.capture import (
    Event,
    MappingAdded,
    ProcessExeced,
    ProcessForked,
    RecordsLost,
    Sample,
    StackSlice,
    ThreadExited,
)

TRAMPOLINE_MAPPING = "[uprobes]"
# Calls left by longjmp or an exception unwind never return; from this many on, a thread's slots below its
# stack pointer are dropped now and then, to bound memory.
_PRUNE_ABOVE = 1 << 16


class ReturnTrampolines:
    """The trampoline of every process, and the true return address behind every hijacked slot of a thread."""

    def __init__(self) -> None:
        self._areas: dict[int, tuple[int, int]] = {}
        self._slots: dict[int, dict[int, int]] = {}
        self.replaced = 0
        """How many words were put back."""
        self.unknown = 0
        """How many trampoline words were seen whose return address is not known."""

    def observe(self, event: Event) -> None:
        """Follow mappings, forks, exits and losses. Samples are not looked at; give them to `restore`."""
        if isinstance(event, MappingAdded):
            if event.mapping.path == TRAMPOLINE_MAPPING:
                self._areas[event.pid] = (event.mapping.start, event.mapping.end)
        elif isinstance(event, ProcessForked):
            if event.pid != event.parent_pid:
                self._fork(event)
        elif isinstance(event, ProcessExeced):
            self._areas.pop(event.pid, None)
            self._slots.pop(event.pid, None)
        elif isinstance(event, ThreadExited):
            # The area stays: a process may go on without its first thread.
            self._slots.pop(event.tid, None)
        elif isinstance(event, RecordsLost):
            self._slots.clear()

    def _fork(self, event: ProcessForked) -> None:
        # The child's stack is a copy of the forking thread's, hijacked slots included.
        area = self._areas.get(event.parent_pid)
        if area is not None:
            self._areas[event.pid] = area
        else:
            self._areas.pop(event.pid, None)
        slots = self._slots.get(event.parent_tid)
        if slots:
            self._slots[event.tid] = dict(slots)

    def enter(self, pid: int, tid: int, slot: int, value: int) -> None:
        """A return-probed function was entered: the stack pointer was `slot` and the word there `value`.

        When a tail call chains two such functions the word is the trampoline already, and what the first one
        found stays true.
        """
        area = self._areas.get(pid)
        if area is not None and area[0] <= value < area[1]:
            return
        slots = self._slots.setdefault(tid, {})
        slots[slot] = value
        count = len(slots)
        if count >= _PRUNE_ABOVE and count & (count - 1) == 0:
            # At powers of two only, so that a recursion that is really that deep costs no quadratic time.
            self._slots[tid] = {at: caller for at, caller in slots.items() if at >= slot}

    def leave(self, tid: int, stack_pointer: int) -> None:
        """A return-probed call came back; `stack_pointer` is just past its slot."""
        slots = self._slots.get(tid)
        if slots:
            slots.pop(stack_pointer - 8, None)

    def restore(self, sample: Sample) -> None:
        """Replace the trampolines in the stack slices of `sample`."""
        area = self._areas.get(sample.pid)
        if area is None or not sample.slices:
            return
        # The trampoline is the first slot of the area (uprobe_get_trampoline_vaddr in the kernel).
        pattern = area[0].to_bytes(8, "little")
        slots = self._slots.get(sample.tid, {})
        for index, part in enumerate(sample.slices):
            at = part.data.find(pattern)
            if at < 0:
                continue
            data = bytearray(part.data)
            while at >= 0:
                if (part.address + at) % 8:
                    # Two halves of other words.
                    at = part.data.find(pattern, at + 1)
                    continue
                value = slots.get(part.address + at)
                if value is not None:
                    data[at : at + 8] = value.to_bytes(8, "little")
                    self.replaced += 1
                else:
                    self.unknown += 1
                at = part.data.find(pattern, at + 8)
            sample.slices[index] = StackSlice(part.address, bytes(data), part.cut)
