"""Decoding of perf event records into the Capture model.

Owns what the kernel ABI says about one record (linux/perf_event.h, enum perf_event_type): where each field of
a sample lies given its event's attributes, and what the side-band records mean. Records come from live ring
buffers and from perf.data files alike, as bytes; events of `relay_reader.capture` go out. Nothing here does I/O.

A record that is too short for what its attributes promise is not an exception, since the stream goes on: it
is counted in `RecordDecoder.faults` under a reason.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum
from operator import itemgetter
from typing import TypeAlias

from relay_reader.capture import (
    X86_64_REGISTER_COUNT,
    Event,
    MappingAdded,
    ProcessExeced,
    ProcessForked,
    RecordsLost,
    Sample,
    StackSlice,
    ThreadExited,
    ThreadNamed,
)
from relay_reader.capture import Mapping as MemoryMapping

Buffer: TypeAlias = bytes | bytearray | memoryview

# enum perf_event_type
RECORD_MMAP = 1
RECORD_LOST = 2
RECORD_COMM = 3
RECORD_EXIT = 4
RECORD_FORK = 7
RECORD_SAMPLE = 9
RECORD_MMAP2 = 10
RECORD_LOST_SAMPLES = 13

# enum perf_event_sample_format
SAMPLE_IP = 1 << 0
SAMPLE_TID = 1 << 1
SAMPLE_TIME = 1 << 2
SAMPLE_ADDR = 1 << 3
SAMPLE_READ = 1 << 4
SAMPLE_CALLCHAIN = 1 << 5
SAMPLE_ID = 1 << 6
SAMPLE_CPU = 1 << 7
SAMPLE_PERIOD = 1 << 8
SAMPLE_STREAM_ID = 1 << 9
SAMPLE_RAW = 1 << 10
SAMPLE_BRANCH_STACK = 1 << 11
SAMPLE_REGS_USER = 1 << 12
SAMPLE_STACK_USER = 1 << 13
SAMPLE_IDENTIFIER = 1 << 16

# enum perf_event_read_format
_READ_TOTAL_TIME_ENABLED = 1 << 0
_READ_TOTAL_TIME_RUNNING = 1 << 1
_READ_ID = 1 << 2
_READ_GROUP = 1 << 3
_READ_LOST = 1 << 4

# enum perf_branch_sample_type
_BRANCH_HW_INDEX = 1 << 17
_BRANCH_COUNTERS = 1 << 19

# perf_event_header.misc
_MISC_CPUMODE = 7
_MISC_KERNEL = 1
_MISC_USER = 2
_MISC_MMAP_DATA = 1 << 13
_MISC_COMM_EXEC = 1 << 13
_MISC_MMAP_BUILD_ID = 1 << 14

_PROT_EXEC = 4
_NO_PID = 0xFFFFFFFF
_REGS_ABI_64 = 2

# enum perf_callchain_context, as the unsigned words they are in a chain
_CONTEXT_KERNEL = (1 << 64) - 128
_CONTEXT_MAX = (1 << 64) - 4095

# enum perf_event_x86_regs → DWARF number (System V ABI AMD64, figure 3.36; 16 is the return address).
_DWARF_NUMBER = {0: 0, 1: 3, 2: 2, 3: 1, 4: 4, 5: 5, 6: 6, 7: 7, 8: 16} | {16 + r: 8 + r for r in range(8)}
ALL_USER_REGISTERS = sum(1 << number for number in _DWARF_NUMBER)
"""attr.sample_regs_user that asks for exactly the registers of a `Sample`."""
STACK_POINTER_REGISTER = 1 << 7
"""attr.sample_regs_user that asks for rsp alone."""
_RSP = 7
_RIP = 16

_HEADER = struct.Struct("<IHH")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_TASK = struct.Struct("<IIIIQ")
_COMM = struct.Struct("<II")
_LOST = struct.Struct("<QQ")
_MAPPING = struct.Struct("<IIQQQ")
_PROTECTION = struct.Struct("<II")


class RecordFault(Enum):
    """Why a record was not decoded in full."""

    TRUNCATED = "the record is shorter than its fields"
    UNKNOWN_EVENT = "the record names an event that was not declared"
    COMPAT_REGISTERS = "a 32-bit process: its registers are not those of x86-64"


class EventLayout:
    """Where the fields of one event's records lie, worked out once from its attributes.

    `sample_type`, `read_format`, `branch_sample_type` and `regs_user` are the fields of struct perf_event_attr
    of these names; `places` is what samples of this event give as `Sample.places`. `raw_bytes` is the size of the
    raw part (PERF_SAMPLE_RAW, with its size field) where all samples of the event have the same, else 0.
    """

    def __init__(
        self,
        sample_type: int,
        *,
        regs_user: int = 0,
        read_format: int = 0,
        branch_sample_type: int = 0,
        sample_id_all: bool = True,
        places: tuple[int, ...] = (),
        raw_bytes: int = 0,
    ) -> None:
        self.sample_type = sample_type
        self.read_format = read_format
        self.branch_sample_type = branch_sample_type
        self.sample_id_all = sample_id_all
        self.places = places
        self._lay_out_head()
        self._lay_out_trailer()
        self._lay_out_registers(regs_user)
        self.has_stack = bool(sample_type & SAMPLE_STACK_USER)
        self._has_variable = bool(sample_type & (SAMPLE_READ | SAMPLE_CALLCHAIN | SAMPLE_RAW | SAMPLE_BRANCH_STACK))

        self.registers_abi_word = (_HEADER.size + self.head.size + raw_bytes) // 8
        """Index of the 8-byte word that holds the ABI of the user registers, where `stack_size_word` is known."""
        self.stack_size_word = -1
        """Index of the 8-byte word that holds the recorded stack size, where that is the same in every sample with
        64-bit registers; else -1."""
        varies = sample_type & (SAMPLE_READ | SAMPLE_CALLCHAIN | SAMPLE_BRANCH_STACK)
        if sample_type & SAMPLE_RAW and not raw_bytes:
            varies |= SAMPLE_RAW
        if self.has_stack and self.has_registers and not varies:
            self.stack_size_word = self.registers_abi_word + 1 + self.registers.size // 8

    def _lay_out_head(self) -> None:
        # Every field before the variable ones is 8 bytes wide, some as two 32-bit halves.
        fields: list[str] = []
        kinds = ""
        self.head_offsets: dict[str, int] = {}
        """Where the fields that every sample has lie in the record, in bytes."""
        for bit, names, kind in (
            (SAMPLE_IDENTIFIER, ("id",), "Q"),
            (SAMPLE_IP, ("ip",), "Q"),
            (SAMPLE_TID, ("pid", "tid"), "II"),
            (SAMPLE_TIME, ("time",), "Q"),
            (SAMPLE_ADDR, ("addr",), "Q"),
            (SAMPLE_ID, ("id",), "Q"),
            (SAMPLE_STREAM_ID, ("stream",), "Q"),
            (SAMPLE_CPU, ("cpu",), "I4x"),
            (SAMPLE_PERIOD, ("period",), "Q"),
        ):
            if self.sample_type & bit:
                self.head_offsets[names[0]] = _HEADER.size + struct.calcsize("<" + kinds)
                fields += names
                kinds += kind
        self.head = struct.Struct("<" + kinds)
        # An absent field gets the index one past the values, where decode puts a default.
        absent = len(fields)
        position = {name: index for index, name in enumerate(fields)}
        self.head_pick: Callable[[tuple[int, ...]], tuple[int, ...]] = itemgetter(
            *(position.get(name, absent) for name in ("time", "pid", "tid", "ip"))
        )
        self.cpu_index = position.get("cpu", -1)
        self.has_ip = "ip" in position

    def _lay_out_trailer(self) -> None:
        # struct sample_id at the end of the records that are not samples (attr.sample_id_all).
        self.trailer_size = 0
        self._trailer_time = self._trailer_cpu = -1
        if not self.sample_id_all:
            return
        at = 0
        for bit in (SAMPLE_TID, SAMPLE_TIME, SAMPLE_ID, SAMPLE_STREAM_ID, SAMPLE_CPU, SAMPLE_IDENTIFIER):
            if self.sample_type & bit:
                if bit == SAMPLE_TIME:
                    self._trailer_time = at
                elif bit == SAMPLE_CPU:
                    self._trailer_cpu = at
                at += 8
        self.trailer_size = at

    def _lay_out_registers(self, mask: int) -> None:
        asked = [number for number in range(64) if mask >> number & 1]
        self.registers = struct.Struct(f"<{len(asked)}Q")
        where = {_DWARF_NUMBER[number]: at for at, number in enumerate(asked) if number in _DWARF_NUMBER}
        self.known = sum(1 << register for register in where)
        self.register_places = [where.get(register, -1) for register in range(X86_64_REGISTER_COUNT)]
        """For each register of a `Sample` its index among the recorded ones, -1 where it was not asked for."""
        self.pick: Callable[[tuple[int, ...]], tuple[int, ...]] = itemgetter(
            *(where.get(register, len(asked)) for register in range(X86_64_REGISTER_COUNT))
        )
        self.has_registers = bool(self.sample_type & SAMPLE_REGS_USER)

    def time_and_cpu(self, record: Buffer) -> tuple[int, int]:
        """Nanoseconds and CPU in the trailer of a record that is not a sample; (0, -1) without."""
        start = len(record) - self.trailer_size
        time = _U64.unpack_from(record, start + self._trailer_time)[0] if self._trailer_time >= 0 else 0
        cpu = _U32.unpack_from(record, start + self._trailer_cpu)[0] if self._trailer_cpu >= 0 else -1
        return time, cpu

    def sample_time(self, record: Buffer) -> int:
        """Nanoseconds of a sample record; 0 when it carries none."""
        values = self.head.unpack_from(record, _HEADER.size)
        return self.head_pick((*values, 0))[0]

    def after_head(self, buffer: Buffer, at: int) -> tuple[int, tuple[int, ...]]:
        """Position of the user registers of the sample at `at`, and its call chain as recorded."""
        at += _HEADER.size + self.head.size
        if not self._has_variable:
            return at, ()
        chain: tuple[int, ...] = ()
        if self.sample_type & SAMPLE_READ:
            at += min(self._read_size(buffer, at), len(buffer))
        if self.sample_type & SAMPLE_CALLCHAIN:
            (count,) = _U64.unpack_from(buffer, at)
            if count > len(buffer):
                raise struct.error("call chain goes past the record")
            chain = struct.unpack_from(f"<{count}Q", buffer, at + 8)
            at += 8 + 8 * count
        if self.sample_type & SAMPLE_RAW:
            at += 4 + _U32.unpack_from(buffer, at)[0]
        if self.sample_type & SAMPLE_BRANCH_STACK:
            at += self._branch_size(_U64.unpack_from(buffer, at)[0])
        if at > len(buffer):
            # A damaged count gives a position that struct would not even take.
            raise struct.error("a counted part goes past the record")
        return at, chain

    def _read_size(self, buffer: Buffer, at: int) -> int:
        fixed, each = self.read_sizes
        return fixed + each * int(_U64.unpack_from(buffer, at)[0]) if each else fixed

    @property
    def read_sizes(self) -> tuple[int, int]:
        """Bytes of the counters' part of each sample (PERF_SAMPLE_READ); in a group, before and of each counter."""
        times = 8 * (self.read_format & (_READ_TOTAL_TIME_ENABLED | _READ_TOTAL_TIME_RUNNING)).bit_count()
        value = 8 + 8 * (self.read_format & (_READ_ID | _READ_LOST)).bit_count()
        return (8 + times, value) if self.read_format & _READ_GROUP else (times + value, 0)

    def _branch_size(self, count: int) -> int:
        head, each = self.branch_sizes
        return head + each * count

    @property
    def branch_sizes(self) -> tuple[int, int]:
        """Bytes before the first branch of a branch stack, and of each branch."""
        head = 16 if self.branch_sample_type & _BRANCH_HW_INDEX else 8
        return head, 32 if self.branch_sample_type & _BRANCH_COUNTERS else 24

    @property
    def head_size(self) -> int:
        """Bytes of a sample record before the first part of variable size."""
        return _HEADER.size + self.head.size

    @property
    def trailer_time(self) -> int:
        """Where the time lies in records that are not samples, from their end (negative); 0: they carry none."""
        return self._trailer_time - self.trailer_size if self._trailer_time >= 0 else 0

    def after_registers(self, buffer: Buffer, at: int) -> int:
        """Position of what follows the user registers at `at`."""
        if not self.has_registers:
            return at
        # The ABI, then the registers, unless the ABI is 0 (no user context, as in a kernel thread).
        return at + 8 + (self.registers.size if _U64.unpack_from(buffer, at)[0] else 0)


def compact_sample(buffer: Buffer, at: int, size: int, layout: EventLayout) -> bytes:
    """A copy of the sample record at `buffer[at:at + size]` that ends where its stack dump really ends.

    The kernel reserves the asked stack size in every record though most stacks are shorter. The header and
    the recorded size of the dump stay, so that `RecordDecoder.decode(…, compacted=True)` can tell a full dump.
    For events that ask for nothing behind the user stack. Raises struct.error when the record is too short.
    """
    if not layout.has_stack:
        return bytes(buffer[at : at + size])
    stack = layout.after_registers(buffer, layout.after_head(buffer, at)[0])
    (reserved,) = _U64.unpack_from(buffer, stack)
    stack += 8
    used = 0
    if reserved:
        if stack + reserved + 8 > at + size:
            raise struct.error("stack dump goes past the record")
        used = min(_U64.unpack_from(buffer, stack + reserved)[0], reserved)
    return bytes(buffer[at : stack + used])


class RecordDecoder:
    """Records of several events, told apart by the id that they carry.

    `layouts` maps an event id to its layout. `default` reads the records of unknown ids, and all records when
    events carry no id (one event only); it may be None, then an unknown id is a fault.
    """

    def __init__(self, layouts: Mapping[int, EventLayout], default: EventLayout | None = None) -> None:
        self.layouts = layouts
        self.default = default
        self.faults: Counter[RecordFault] = Counter()
        first = default or next(iter(layouts.values()), None)
        if first is None:
            raise ValueError("a decoder needs at least one event layout")
        self._first = first
        # The id must be found before the layout is known, so all events have it at the same place: the ABI
        # made PERF_SAMPLE_IDENTIFIER for that, and perf gives events without it one sample_type.
        self._sample_id_at, self._trailer_id_at = _id_positions(first.sample_type)

    @property
    def first(self) -> EventLayout:
        """The layout of records that name no event."""
        return self._first

    @property
    def id_positions(self) -> tuple[int, int]:
        """Where events' ids lie: in samples, -1 without; in other records from their end (negative), 0 without."""
        return self._sample_id_at, self._trailer_id_at if self._first.sample_id_all and self._sample_id_at >= 0 else 0

    def layout_of(self, record: Buffer) -> EventLayout | None:
        """The layout of the event that wrote `record`; None for an event that was not declared."""
        kind = _HEADER.unpack_from(record)[0]
        position = self._sample_id_at if kind == RECORD_SAMPLE else len(record) + self._trailer_id_at
        if self._sample_id_at < 0 or (kind != RECORD_SAMPLE and not self._first.sample_id_all):
            return self._first
        layout = self.layouts.get(_U64.unpack_from(record, position)[0])
        if layout is None and kind != RECORD_SAMPLE:
            # Records made up by perf itself carry id 0; the side-band trailer is the same for all of them.
            return self._first
        return layout or self.default

    def time_of(self, record: Buffer) -> int:
        """Nanoseconds of any kernel record, 0 when it has no time or is too short to tell."""
        try:
            layout = self.layout_of(record)
            if layout is None:
                return 0
            if _HEADER.unpack_from(record)[0] == RECORD_SAMPLE:
                return layout.sample_time(record)
            return layout.time_and_cpu(record)[0]
        except struct.error:
            return 0

    def decode(self, record: Buffer, *, compacted: bool = False) -> Event | None:
        """The event that `record` tells, None for one that the Capture model has no use for.

        `compacted` says that the record went through `compact_sample`. Never raises on malformed records:
        they are counted in `faults` and give None.
        """
        try:
            kind, misc, size = _HEADER.unpack_from(record)
            if len(record) < size and not compacted:
                self.faults[RecordFault.TRUNCATED] += 1
                return None
            layout = self.layout_of(record)
            if layout is None:
                self.faults[RecordFault.UNKNOWN_EVENT] += 1
                return None
            if kind == RECORD_SAMPLE:
                return self._sample(record, layout, misc, compacted)
            reader = _SIDE_BAND.get(kind)
            return reader(record, layout, misc) if reader else None
        except struct.error:
            self.faults[RecordFault.TRUNCATED] += 1
            return None

    def _sample(self, record: Buffer, layout: EventLayout, misc: int, compacted: bool) -> Sample:
        values = layout.head.unpack_from(record, _HEADER.size)
        time, pid, tid, ip = layout.head_pick((*values, 0))
        cpu = values[layout.cpu_index] if layout.cpu_index >= 0 else -1
        at, recorded_chain = layout.after_head(record, 0)
        chain = _kernel_part(recorded_chain)
        if not chain and layout.has_ip and misc & _MISC_CPUMODE == _MISC_KERNEL:
            chain = (ip,)
        registers: tuple[int, ...] = ()
        known = 0
        if not layout.has_registers:
            if layout.has_ip and misc & _MISC_CPUMODE == _MISC_USER:
                registers, known = (0,) * _RIP + (ip,), 1 << _RIP
            return Sample(time, cpu, pid, tid, layout.places, registers, known, [], chain)
        (abi,) = _U64.unpack_from(record, at)
        if abi == _REGS_ABI_64:
            registers = layout.pick((*layout.registers.unpack_from(record, at + 8), 0))
            known = layout.known
        elif abi:
            self.faults[RecordFault.COMPAT_REGISTERS] += 1
        sample = Sample(time, cpu, pid, tid, layout.places, registers, known, [], chain)
        if layout.has_stack and known >> _RSP & 1:
            stack = _stack(record, layout.after_registers(record, at), registers[_RSP], compacted)
            if stack is not None:
                sample.slices.append(stack)
        return sample


def _stack(record: Buffer, at: int, rsp: int, compacted: bool) -> StackSlice | None:
    (reserved,) = _U64.unpack_from(record, at)
    at += 8
    if reserved == 0:
        return None
    if not compacted and reserved > len(record):
        raise struct.error("stack dump goes past the record")
    used = len(record) - at if compacted else _U64.unpack_from(record, at + reserved)[0]
    if used > reserved:
        raise struct.error("stack dump goes past the record")
    # A dump that filled all its room was ended by the limit, a shorter one by the end of the stack.
    return StackSlice(rsp, bytes(record[at : at + used]), used == reserved) if used else None


def _id_positions(sample_type: int) -> tuple[int, int]:
    # (offset of the id in a sample, offset from the end in other records), or (-1, -1).
    if sample_type & SAMPLE_IDENTIFIER:
        return _HEADER.size, -8
    if not sample_type & SAMPLE_ID:
        return -1, -1
    before = (SAMPLE_IP, SAMPLE_TID, SAMPLE_TIME, SAMPLE_ADDR)
    after = (SAMPLE_STREAM_ID, SAMPLE_CPU)
    return (
        _HEADER.size + 8 * sum(bool(sample_type & bit) for bit in before),
        -8 - 8 * sum(bool(sample_type & bit) for bit in after),
    )


def _kernel_part(chain: tuple[int, ...]) -> tuple[int, ...]:
    if not chain:
        return ()
    kept: list[int] = []
    in_kernel = False
    for address in chain:
        if address >= _CONTEXT_MAX:
            in_kernel = address == _CONTEXT_KERNEL
        elif in_kernel:
            kept.append(address)
    return tuple(kept)


def _text(record: Buffer, start: int, end: int) -> str:
    return bytes(record[start:end]).split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _comm(record: Buffer, layout: EventLayout, misc: int) -> Event:
    pid, tid = _COMM.unpack_from(record, 8)
    comm = _text(record, 16, len(record) - layout.trailer_size)
    time, _ = layout.time_and_cpu(record)
    if misc & _MISC_COMM_EXEC:
        return ProcessExeced(time, pid, comm)
    return ThreadNamed(time, pid, tid, comm)


def _fork(record: Buffer, layout: EventLayout, misc: int) -> Event:
    pid, parent_pid, tid, parent_tid, time = _TASK.unpack_from(record, 8)
    return ProcessForked(time, pid, parent_pid, tid, parent_tid)


def _exit(record: Buffer, layout: EventLayout, misc: int) -> Event:
    pid, _, tid, _, time = _TASK.unpack_from(record, 8)
    return ThreadExited(time, pid, tid)


def _lost(record: Buffer, layout: EventLayout, misc: int) -> Event:
    _, count = _LOST.unpack_from(record, 8)
    time, cpu = layout.time_and_cpu(record)
    return RecordsLost(time, cpu, count)


def _lost_samples(record: Buffer, layout: EventLayout, misc: int) -> Event:
    (count,) = _U64.unpack_from(record, 8)
    time, cpu = layout.time_and_cpu(record)
    return RecordsLost(time, cpu, count)


def _mapping(record: Buffer, layout: EventLayout, misc: int, name_at: int, build_id: bytes | None) -> Event | None:
    pid, _, start, length, file_offset = _MAPPING.unpack_from(record, 8)
    if misc & _MISC_MMAP_DATA or pid == _NO_PID:
        # Data is no code; the kernel's own mappings, which perf notes with pid -1, belong to no process.
        return None
    path = _text(record, name_at, len(record) - layout.trailer_size)
    time, _ = layout.time_and_cpu(record)
    return MappingAdded(time, pid, MemoryMapping(start, start + length, file_offset, path, build_id))


def _mmap(record: Buffer, layout: EventLayout, misc: int) -> Event | None:
    return _mapping(record, layout, misc, 40, None)


def _mmap2(record: Buffer, layout: EventLayout, misc: int) -> Event | None:
    protection, _ = _PROTECTION.unpack_from(record, 64)
    if not protection & _PROT_EXEC:
        return None
    build_id = None
    if misc & _MISC_MMAP_BUILD_ID:
        # u8 size, 3 bytes reserved, 20 bytes: in place of device and inode numbers.
        build_id = bytes(record[44 : 44 + min(record[40], 20)])
    return _mapping(record, layout, misc, 72, build_id)


_SIDE_BAND: dict[int, Callable[[Buffer, EventLayout, int], Event | None]] = {
    RECORD_MMAP: _mmap,
    RECORD_LOST: _lost,
    RECORD_COMM: _comm,
    RECORD_EXIT: _exit,
    RECORD_FORK: _fork,
    RECORD_MMAP2: _mmap2,
    RECORD_LOST_SAMPLES: _lost_samples,
}
