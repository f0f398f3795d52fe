"""Threads of a snapshot in the words of the Capture model, and their traces with what no walk knows."""

from __future__ import annotations

from ptap.snapshot.process_snapshot import ProcessSnapshot, ThreadCopy
from relay_reader.capture import Mapping, Sample, StackSlice
from unwind.trace import Trace, TraceFrame


def executable_mappings(snapshot: ProcessSnapshot) -> list[Mapping]:
    """The mappings in which code lies."""
    return [row.mapping() for row in snapshot.rows if row.executable and row.path != "[vsyscall]"]


def sample_of(snapshot: ProcessSnapshot, copy: ThreadCopy) -> Sample:
    """A thread of a snapshot as a sample."""
    vector_registers = copy.vector_registers
    return Sample(
        time_ns=snapshot.time_ns,
        cpu=-1,
        pid=snapshot.pid,
        tid=copy.tid,
        places=(),
        registers=copy.registers,
        known=copy.known,
        slices=[StackSlice(address, bytes(data)) for address, data in copy.stacks],
        read_memory=snapshot.memory.read,
        read_vector_registers=None if vector_registers is None else lambda: vector_registers,
        # What was not copied may have been written to, but where nothing can be.
        left_to_file=lambda address: False,
    )


def complete_trace(trace: Trace, copy: ThreadCopy, addresses: dict[str, int]) -> None:
    """Add the kernel's frames, and why a thread has no stack or not a whole one.

    `addresses`: where functions of the kernel begin. A frame of one that is not known has the address 0.
    """
    for index, frame in enumerate(copy.kernel_frames):
        begin = addresses.get(frame.function, 0) if frame.offset is not None else 0
        address = begin + (frame.offset or 0) if begin else 0
        trace.frames.insert(
            index,
            TraceFrame("kernel", address, frame.module or "[kernel]", function=frame.function, offset=frame.offset),
        )
    if copy.problem is None:
        return
    if trace.stop_text is None or not copy.known:
        trace.stop_text = copy.problem
    else:
        trace.stop_text = f"{copy.problem}; {trace.stop_text}"
