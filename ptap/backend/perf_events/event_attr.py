"""perf_event_open and its attributes: what this back end asks of the kernel, and how.

Owns struct perf_event_attr (linux/perf_event.h) as far as it is used, the system call, and the ioctls.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import time
from dataclasses import dataclass, replace
from functools import cache

from relay_reader import perf_record

TYPE_SOFTWARE = 1
TYPE_TRACEPOINT = 2
SOFTWARE_CPU_CLOCK = 0
SOFTWARE_TASK_CLOCK = 1
SOFTWARE_CONTEXT_SWITCHES = 3
SOFTWARE_DUMMY = 9

_DISABLED = 1 << 0
_INHERIT = 1 << 1
_EXCLUDE_IDLE = 1 << 7
_MMAP = 1 << 8
_COMM = 1 << 9
_FREQUENCY = 1 << 10
_ENABLE_ON_EXEC = 1 << 12
_TASK = 1 << 13
_WATERMARK = 1 << 14
_SAMPLE_ID_ALL = 1 << 18
_EXCLUDE_CALLCHAIN_USER = 1 << 22
_MMAP2 = 1 << 23
_COMM_EXEC = 1 << 24
_USE_CLOCKID = 1 << 25
_CONTEXT_SWITCH = 1 << 26
_BUILD_ID = 1 << 34

_ATTR_SIZE = 136
_SYS_PERF_EVENT_OPEN = 298  # x86-64
_FLAG_FD_CLOEXEC = 8
_IOC_ENABLE = 0x2400
_IOC_DISABLE = 0x2401
_IOC_SET_OUTPUT = 0x2405
_IOC_ID = 0x80082407

BASE_SAMPLE = (
    perf_record.SAMPLE_IDENTIFIER
    | perf_record.SAMPLE_IP
    | perf_record.SAMPLE_TID
    | perf_record.SAMPLE_TIME
    | perf_record.SAMPLE_CPU
)
"""What every record carries; the same for all events, so that time and id lie at one place."""
_RAW_OR_CHAIN = perf_record.SAMPLE_RAW | perf_record.SAMPLE_CALLCHAIN
_USER_CONTEXT = perf_record.SAMPLE_REGS_USER | perf_record.SAMPLE_STACK_USER

# The raw part follows the header and the five words of BASE_SAMPLE: its size (32 bits), then struct
# uretprobe_trace_entry_head (kernel/trace/trace_uprobe.c): 8 bytes common to all trace events, the function, the
# return address; padded to a multiple of 8 bytes with the size.
_RETURN_RAW = struct.Struct("<I8xQ")
_RETURN_RAW_AT = 48
_RETURN_RAW_BYTES = 32

MAXIMUM_USER_STACK = 65528
"""Bytes: the largest multiple of 8 that attr.sample_stack_user takes, as a record's size is 16 bits wide."""


@dataclass(frozen=True, slots=True)
class EventAttr:
    """One event to open: the part of struct perf_event_attr that differs between our events."""

    type: int
    config: int
    sample_type: int = BASE_SAMPLE
    period: int = 0
    frequency: int = 0
    regs_user: int = 0
    stack_user: int = 0
    side_band: bool = False
    """Report mmap, comm, fork and exit (the records that describe processes)."""
    switches: bool = False
    """Report each switch of threads, too."""
    enable_on_exec: bool = False
    inherit: bool = True
    watermark: int = 0

    def pack(self, *, build_id: bool) -> bytes:
        """The C structure, version 8 (136 bytes)."""
        flags = _DISABLED | _SAMPLE_ID_ALL | _USE_CLOCKID | _WATERMARK
        flags |= _INHERIT if self.inherit else 0
        flags |= _ENABLE_ON_EXEC if self.enable_on_exec else 0
        flags |= _FREQUENCY if self.frequency else 0
        if self.sample_type & perf_record.SAMPLE_CALLCHAIN:
            flags |= _EXCLUDE_CALLCHAIN_USER
        if self.side_band:
            flags |= _MMAP | _MMAP2 | _COMM | _COMM_EXEC | _TASK
            flags |= _BUILD_ID if build_id else 0
            flags |= _CONTEXT_SWITCH if self.switches else 0
        if self.type == TYPE_SOFTWARE and self.config == SOFTWARE_CPU_CLOCK:
            flags |= _EXCLUDE_IDLE
        return struct.pack(
            "<IIQQQQQIIQQQQIiQIHHIIQQ",
            *(self.type, _ATTR_SIZE, self.config, self.frequency or self.period, self.sample_type),
            *(0, flags, self.watermark or 1 << 31, 0, 0, 0, 0),
            *(self.regs_user, self.stack_user, time.CLOCK_MONOTONIC, 0, 0, 0, 0, 0, 0, 0, 0),
        )

    def layout(self, places: tuple[int, ...] = (), *, weight: int | None = None) -> perf_record.EventLayout:
        """How records of this event are read; `weight` is that of each sample, where it is not 1."""
        return perf_record.EventLayout(
            self.sample_type,
            regs_user=self.regs_user,
            places=places,
            periods=weight is not None,
            fixed_period=weight or 1,
            # Behind a chain it lies where that ends.
            raw_bytes=_RETURN_RAW_BYTES if self.sample_type & _RAW_OR_CHAIN == perf_record.SAMPLE_RAW else 0,
        )


def probe_hit(event_id: int, user_stack: int, *, enable_on_exec: bool) -> EventAttr:
    """Every hit of the trace event `event_id`, with registers and `user_stack` bytes of stack.

    No kernel chain: at a uprobe the kernel part of the stack is the probe's own machinery.
    """
    return EventAttr(
        *(TYPE_TRACEPOINT, event_id, BASE_SAMPLE | _USER_CONTEXT, 1),
        regs_user=perf_record.ALL_USER_REGISTERS,
        stack_user=user_stack,
        enable_on_exec=enable_on_exec,
    )


def return_hit(event_id: int, user_stack: int, *, enable_on_exec: bool) -> EventAttr:
    """`probe_hit` of a return probe, with the raw part, which tells the function that returned."""
    hit = probe_hit(event_id, user_stack, enable_on_exec=enable_on_exec)
    return replace(hit, sample_type=hit.sample_type | perf_record.SAMPLE_RAW)


def returned_function(record: bytes) -> int | None:
    """Address of the function that returned, from a sample of `return_hit`; None when it is not laid out so."""
    if len(record) < _RETURN_RAW_AT + _RETURN_RAW_BYTES:
        return None
    size, function = _RETURN_RAW.unpack_from(record, _RETURN_RAW_AT)
    return int(function) if size + 4 == _RETURN_RAW_BYTES else None


def breakpoint_keeper(hit: EventAttr) -> EventAttr:
    """A twin of a uprobe event, to be opened for all processes and never enabled, which keeps breakpoints in place.

    The kernel takes a uprobe's breakpoints out of a process in which no event's task runs any more
    (kernel/trace/trace_uprobe.c, uprobe_perf_close and trace_uprobe_filter_event). But when tasks with equal
    inherited contexts switch, it swaps the contexts and not the events' tasks (kernel/events/core.c,
    perf_event_context_sched_out); then the exit of one process or thread takes the breakpoints out of another that
    still runs, and its hits are missed without a trace. An event for all processes ends that bookkeeping. The price:
    processes that are not traced but map the same file stop at the breakpoints too, for about a microsecond.
    """
    return replace(hit, enable_on_exec=False, inherit=False)


def entry_slot(event_id: int, *, enable_on_exec: bool) -> EventAttr:
    """Every hit of `event_id` with rsp and the 8 bytes there: a function's return-address slot."""
    return EventAttr(
        *(TYPE_TRACEPOINT, event_id, BASE_SAMPLE | _USER_CONTEXT, 1),
        regs_user=perf_record.STACK_POINTER_REGISTER,
        stack_user=8,
        enable_on_exec=enable_on_exec,
    )


def kernel_event(
    kind: int, config: int, user_stack: int, *, period: int = 0, frequency: int = 0, enable_on_exec: bool
) -> EventAttr:
    """A tracepoint or a sampling clock: kernel chain, user registers and user stack in one sample."""
    return EventAttr(
        *(kind, config, BASE_SAMPLE | _USER_CONTEXT | perf_record.SAMPLE_CALLCHAIN, period, frequency),
        regs_user=perf_record.ALL_USER_REGISTERS,
        stack_user=user_stack,
        enable_on_exec=enable_on_exec,
    )


def switch_out(tracepoint: int | None, user_stack: int, *, enable_on_exec: bool) -> EventAttr:
    """A thread leaves the processor: by the tracepoint sched:sched_switch with its raw part, or without tracepoints."""
    kind, config = (TYPE_SOFTWARE, SOFTWARE_CONTEXT_SWITCHES) if tracepoint is None else (TYPE_TRACEPOINT, tracepoint)
    attr = kernel_event(kind, config, user_stack, period=1, enable_on_exec=enable_on_exec)
    return attr if tracepoint is None else replace(attr, sample_type=attr.sample_type | perf_record.SAMPLE_RAW)


def side_band(*, switches: bool = False, enable_on_exec: bool) -> EventAttr:
    """An event that counts nothing and reports the target's mappings, names, forks and exits, and its `switches`."""
    return EventAttr(*(TYPE_SOFTWARE, SOFTWARE_DUMMY), side_band=True, switches=switches, enable_on_exec=enable_on_exec)


def ring_owner(watermark: int) -> EventAttr:
    """An event that is never enabled; its ring takes other events' records and wakes at `watermark` bytes."""
    return EventAttr(TYPE_SOFTWARE, SOFTWARE_DUMMY, inherit=False, watermark=watermark)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def open_event(attr: EventAttr, pid: int, cpu: int) -> int:
    """A file descriptor of the event on thread `pid` (-1: all) while it runs on `cpu`. Raises OSError."""
    for build_id in (True, False) if attr.side_band else (False,):
        raw = ctypes.create_string_buffer(attr.pack(build_id=build_id), _ATTR_SIZE)
        fd: int = _libc().syscall(
            *(_SYS_PERF_EVENT_OPEN, raw, ctypes.c_int(pid), ctypes.c_int(cpu), ctypes.c_int(-1)),
            ctypes.c_ulong(_FLAG_FD_CLOEXEC),
        )
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        # Kernels before 5.12 do not know attr.build_id and refuse the bit.
        if code not in (errno.EINVAL, errno.E2BIG):
            break
    raise OSError(code, os.strerror(code))


def event_id(fd: int) -> int:
    """The id that the event's records carry, and those of the events inherited from it."""
    raw = bytearray(8)
    fcntl.ioctl(fd, _IOC_ID, raw)
    return int.from_bytes(raw, "little")


def send_output(fd: int, ring_fd: int) -> None:
    """Write the event's records to the ring of `ring_fd`, which must be on the same CPU."""
    fcntl.ioctl(fd, _IOC_SET_OUTPUT, ring_fd)


def enable(fd: int) -> None:
    """Start the event, with what was inherited from it."""
    fcntl.ioctl(fd, _IOC_ENABLE, 0)


def disable(fd: int) -> None:
    """Stop the event, with what was inherited from it."""
    fcntl.ioctl(fd, _IOC_DISABLE, 0)
