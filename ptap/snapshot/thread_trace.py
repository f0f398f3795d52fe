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


def complete_trace(trace: Trace, copy: ThreadCopy) -> None:
    """Add the kernel's frames, and why a thread has no stack or not a whole one."""
    trace.frames[:0] = [
        TraceFrame("kernel", 0, frame.module or "[kernel]", function=frame.function, offset=frame.offset)
        for frame in copy.kernel_frames
    ]
    if copy.problem is None:
        return
    if trace.stop_text is None or not copy.known:
        trace.stop_text = copy.problem
    else:
        trace.stop_text = f"{copy.problem}; {trace.stop_text}"
