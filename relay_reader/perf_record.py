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

from relay_reader.capture import X86_64_REGISTER_COUNT, ChainSource, Event, Sample, StackSlice, ToldChain
from relay_reader.perf_chain import branch_chain, frame_pointer_chain, recorded_chain
from relay_reader.perf_side_band import MISC_CPUMODE, MISC_KERNEL, PASSED_OVER, SIDE_BAND, Buffer, RecordTrailer

# enum perf_event_type
RECORD_SAMPLE = 9

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
_BRANCH_CALL_STACK = 1 << 11
_BRANCH_HW_INDEX = 1 << 17
_BRANCH_COUNTERS = 1 << 19

# perf_event_header.misc
_MISC_USER = 2
_MISC_GUEST_KERNEL = 4
_MISC_GUEST_USER = 5

_REGS_ABI_64 = 2

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


class RecordFault(Enum):
    """Why a record was not decoded in full."""

    TRUNCATED = "the record is shorter than its fields"
    UNKNOWN_EVENT = "the record names an event that was not declared"
    DEFERRED_CHAIN = "the user's part of a call chain was recorded later, which is not read (--call-graph fp,defer)"
    GUEST = "a sample of a virtual machine's guest: its addresses are not named"
    COMPAT_REGISTERS = "a 32-bit process: its registers are not those of x86-64"


class EventLayout:
    """Where the fields of one event's records lie, worked out once from its attributes.

    `sample_type`, `read_format`, `branch_sample_type` and `regs_user` are the fields of struct perf_event_attr
    of these names; `places` is what samples of this event give as `Sample.places`. `raw_bytes` is the size of the
    raw part (PERF_SAMPLE_RAW, with its size field) where all samples of the event have the same, else 0. `max_stack`
    is the most addresses of a chain, 0 for the kernel's usual limit. With `periods` a sample's weight is its period,
    which is `fixed_period` where it does not tell.
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
        max_stack: int = 0,
        periods: bool = False,
        fixed_period: int = 1,
    ) -> None:
        self.sample_type = sample_type
        self.id_positions = _id_positions(sample_type)
        """Where the event's id lies: in samples, and from the end in other records; (-1, -1) without ids."""
        self.read_format = read_format
        self.branch_sample_type = branch_sample_type
        self.sample_id_all = sample_id_all
        self.places = places
        self.max_stack = max_stack
        self.weight = fixed_period if periods else 1
        self._lay_out_head(periods)
        self._lay_out_trailer()
        self._lay_out_registers(regs_user)
        self.has_call_stack = bool(sample_type & SAMPLE_BRANCH_STACK and branch_sample_type & _BRANCH_CALL_STACK)
        """The branches are the calls that have not returned (--call-graph lbr)."""
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

    def _lay_out_head(self, periods: bool) -> None:
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
        self.period_index = position.get("period", -1) if periods else -1

    def _lay_out_trailer(self) -> None:
        # struct sample_id at the end of the records that are not samples (attr.sample_id_all).
        at, time, cpu = 0, -1, -1
        self.trailer = RecordTrailer(0, time, cpu)
        if not self.sample_id_all:
            return
        for bit in (SAMPLE_TID, SAMPLE_TIME, SAMPLE_ID, SAMPLE_STREAM_ID, SAMPLE_CPU, SAMPLE_IDENTIFIER):
            if self.sample_type & bit:
                if bit == SAMPLE_TIME:
                    time = at
                elif bit == SAMPLE_CPU:
                    cpu = at
                at += 8
        self.trailer = RecordTrailer(at, time, cpu)

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

    def sample_time(self, record: Buffer) -> int:
        """Nanoseconds of a sample record; 0 when it carries none."""
        values = self.head.unpack_from(record, _HEADER.size)
        return self.head_pick((*values, 0))[0]

    def after_head(self, buffer: Buffer, at: int) -> tuple[int, tuple[int, ...], int]:
        """Position of the user registers of the sample at `at`, its call chain as recorded, and where its branches are.

        The branches' position is that of their count, 0 without any.
        """
        at += _HEADER.size + self.head.size
        if not self._has_variable:
            return at, (), 0
        branches = 0
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
            branches = at
            at += self._branch_size(_U64.unpack_from(buffer, at)[0])
        if at > len(buffer):
            # A damaged count gives a position that struct would not even take.
            raise struct.error("a counted part goes past the record")
        return at, chain, branches

    def raw_part(self, record: Buffer) -> bytes:
        """What a sample of a tracepoint carries of it, for events with a raw part and perhaps a chain before it."""
        at = self.head_size
        if self.sample_type & SAMPLE_CALLCHAIN:
            at += 8 + 8 * int(_U64.unpack_from(record, at)[0])
        (size,) = _U32.unpack_from(record, at)
        return bytes(record[at + 4 : at + 4 + size])

    def call_stack(self, buffer: Buffer, at: int, pc: int | None) -> ToldChain | None:
        """The chain of the branches whose count is at `at`, which are calls; see `branch_chain`."""
        (count,) = _U64.unpack_from(buffer, at)
        return branch_chain(buffer, at + 8 + (8 if self.branch_sample_type & _BRANCH_HW_INDEX else 0), count, pc)

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
        return self.trailer.time_at - self.trailer.size if self.trailer.time_at >= 0 else 0

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
        self.passed_over: Counter[str] = Counter()
        """Records that are known and of no use here, by their names in linux/perf_event.h."""
        self.unknown_kinds: Counter[int] = Counter()
        """Records of types that are not known."""
        first = default or next(iter(layouts.values()), None)
        if first is None:
            raise ValueError("a decoder needs at least one event layout")
        self._first = first
        # The id must be found before the layout is known, so all events have it at the same place: the ABI
        # made PERF_SAMPLE_IDENTIFIER for that, and perf gives events without it one sample_type.
        self._sample_id_at, self._trailer_id_at = first.id_positions

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
            return layout.trailer.time_and_cpu(record)[0]
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
            reader = SIDE_BAND.get(kind)
            if reader is not None:
                return reader(record, layout.trailer, misc)
            if kind not in PASSED_OVER:
                self.unknown_kinds[kind] += 1
            else:
                self.passed_over[PASSED_OVER[kind]] += 1
            return None
        except struct.error:
            self.faults[RecordFault.TRUNCATED] += 1
            return None

    def _sample(self, record: Buffer, layout: EventLayout, misc: int, compacted: bool) -> Sample:
        values = layout.head.unpack_from(record, _HEADER.size)
        time, pid, tid, ip = layout.head_pick((*values, 0))
        cpu = values[layout.cpu_index] if layout.cpu_index >= 0 else -1
        at, words, branches = layout.after_head(record, 0)
        recorded = recorded_chain(words)
        chain = recorded.kernel
        mode = misc & MISC_CPUMODE
        if not chain and layout.has_ip and mode == MISC_KERNEL:
            chain = (ip,)
        sample = Sample(time, cpu, pid, tid, layout.places, (), 0, [], chain)
        sample.weight = layout.weight if layout.period_index < 0 else values[layout.period_index] or 1
        if recorded.guest or mode in (_MISC_GUEST_KERNEL, _MISC_GUEST_USER):
            return self._guest_sample(sample, recorded.user, ip if layout.has_ip else None, mode)
        if recorded.deferred:
            self.faults[RecordFault.DEFERRED_CHAIN] += 1
        pc = ip if layout.has_ip and mode == _MISC_USER else None
        if not layout.has_stack:
            sample.told_chain = frame_pointer_chain(recorded, layout.max_stack)
            if branches and layout.has_call_stack:
                sample.told_chain = layout.call_stack(record, branches, recorded.user[0] if recorded.user else pc)
        if not layout.has_registers:
            if pc is not None:
                sample.registers, sample.known = (0,) * _RIP + (pc,), 1 << _RIP
            return sample
        (abi,) = _U64.unpack_from(record, at)
        if abi == _REGS_ABI_64:
            sample.registers = layout.pick((*layout.registers.unpack_from(record, at + 8), 0))
            sample.known = layout.known
        elif abi:
            self.faults[RecordFault.COMPAT_REGISTERS] += 1
        registers, known = sample.registers, sample.known
        if layout.has_stack and known >> _RSP & 1:
            stack = _stack(record, layout.after_registers(record, at), registers[_RSP], compacted)
            if stack is not None:
                sample.slices.append(stack)
        return sample

    def _guest_sample(self, sample: Sample, user: tuple[int, ...], ip: int | None, mode: int) -> Sample:
        """A sample of a guest, whose registers and stack the host does not see."""
        self.faults[RecordFault.GUEST] += 1
        sample.guest = True
        if ip is not None and mode == _MISC_GUEST_KERNEL and not sample.kernel_chain:
            sample.kernel_chain = (ip,)
        elif ip is not None and mode == _MISC_GUEST_USER and not user:
            user = (ip,)
        if user:
            sample.told_chain = ToldChain(ChainSource.FRAME_POINTERS, user, True)
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
