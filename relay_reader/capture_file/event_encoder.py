"""Events to the parts of a chunk: rows are packed one by one as events come, the chunk is made when it is full."""

from __future__ import annotations

from relay_reader.capture import (
    ChainSource,
    Event,
    KernelCodeNamed,
    KernelSectionPlaced,
    KernelStack,
    MappingAdded,
    ProcessExeced,
    ProcessForked,
    RecordsLost,
    Sample,
    StackSlice,
    ThreadExited,
    ThreadNamed,
    UserStack,
)
from relay_reader.capture_file.row_layout import (
    CALLED,
    HAS_KERNEL_STACK,
    HAS_OWN_MAPPINGS,
    HAS_SIGNATURE_MASK,
    HAS_USER_STACK,
    HAS_VECTORS,
    IS_GUEST,
    ROWS,
    TOLD_BY_FRAME_POINTERS,
    TOLD_BY_LAST_BRANCHES,
    TOLD_CUT,
    Part,
    row_struct,
)

_PACK = {part: row_struct(part).pack for part in ROWS}
_SAMPLE = _PACK[Part.SAMPLE]
_TOLD_BY = {
    ChainSource.FRAME_POINTERS: TOLD_BY_FRAME_POINTERS,
    ChainSource.LAST_BRANCHES: TOLD_BY_LAST_BRANCHES,
}
_SLICE = _PACK[Part.SLICES]
_ORDER = _PACK[Part.ORDER]
_SOURCE = _PACK[Part.SOURCES]


def _words(numbers: tuple[int, ...]) -> bytes:
    return b"".join([number.to_bytes(8, "little") for number in numbers])


class EventEncoder:
    """The events of one chunk to come. A sample's memory and vector registers are read when it is added."""

    def __init__(self) -> None:
        self.count = 0
        self.samples = 0
        self.size = 0
        """Bytes of all parts, about."""
        self.times: tuple[int, int] | None = None
        """The least and the greatest."""
        self._parts: dict[Part, bytearray] = {part: bytearray() for part in ROWS}
        self._memory = bytearray()
        self._texts: dict[bytes, int] = {}
        self._of_others = False

    def add(self, event: Event, source: int = 0) -> None:
        """Take one event. Raises OverflowError and struct.error for numbers that are none of an event."""
        part = self._add_sample(event) if isinstance(event, Sample) else self._add_row(event)
        parts = self._parts
        parts[Part.ORDER] += _ORDER(part)
        parts[Part.SOURCES] += _SOURCE(source)
        self._of_others = self._of_others or source != 0
        self.count += 1
        time = event.time_ns
        if self.times is None:
            self.times = time, time
        elif time < self.times[0] or time > self.times[1]:
            self.times = min(time, self.times[0]), max(time, self.times[1])

    def parts(self) -> dict[int, bytes]:
        """What was added, as a chunk's parts; those that are empty are left out."""
        texts = list(self._texts)
        ends = bytearray()
        end = 0
        for text in texts:
            end += len(text)
            ends += _PACK[Part.TEXT_ENDS](end)
        parts = {int(part): bytes(rows) for part, rows in self._parts.items() if rows}
        if not self._of_others:
            parts.pop(Part.SOURCES, None)
        if texts:
            parts[Part.TEXT_ENDS] = bytes(ends)
            parts[Part.TEXTS] = b"".join(texts)
        if self._memory:
            parts[Part.MEMORY] = bytes(self._memory)
        return parts

    def _text(self, text: str | bytes | None) -> int:
        """The number + 1 of a text of this chunk, 0 for none."""
        if text is None:
            return 0
        raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        number = self._texts.setdefault(raw, len(self._texts))
        self.size += len(raw) if number == len(self._texts) - 1 else 0
        return number + 1

    def _add_row(self, event: Event) -> Part:
        """A row of an event that is no sample."""
        row: tuple[int, ...]
        match event:
            case MappingAdded(time_ns=time, pid=pid, mapping=mapping):
                part = Part.MAPPING_ADDED
                place = (mapping.start, mapping.end, mapping.file_offset)
                row = (time, pid, *place, self._text(mapping.path), self._text(mapping.build_id))
            case ProcessForked(time_ns=time, pid=pid, parent_pid=parent, tid=tid, parent_tid=parent_tid):
                flags = 0 if event.inherits else HAS_OWN_MAPPINGS
                part, row = Part.PROCESS_FORKED, (time, pid, parent, tid, parent_tid, flags)
            case ProcessExeced(time_ns=time, pid=pid, comm=comm):
                part, row = Part.PROCESS_EXECED, (time, pid, self._text(comm))
            case ThreadNamed(time_ns=time, pid=pid, tid=tid, comm=comm):
                part, row = Part.THREAD_NAMED, (time, pid, tid, self._text(comm))
            case ThreadExited(time_ns=time, pid=pid, tid=tid):
                part, row = Part.THREAD_EXITED, (time, pid, tid)
            case RecordsLost(time_ns=time, cpu=cpu, count=count):
                part, row = Part.RECORDS_LOST, (time, cpu, count)
            case KernelSectionPlaced(time_ns=time, module=module, section=section, address=address):
                part, row = Part.KERNEL_SECTION, (time, module, section, address)
            case KernelCodeNamed(time_ns=time, address=address, size=size, name=name, gone=gone):
                part, row = Part.KERNEL_CODE, (time, address, size, self._text(name), gone)
            case _:
                raise TypeError(f"{type(event).__name__} is no event of a capture file")
        self._parts[part] += _PACK[part](*row)
        self.size += 64
        return part

    def _add_sample(self, sample: Sample) -> Part:
        parts = self._parts
        flags = (CALLED if sample.called else 0) | (IS_GUEST if sample.guest else 0)
        if sample.signature_mask is not None:
            flags |= HAS_SIGNATURE_MASK
        vectors: dict[int, bytes] = {}
        if sample.read_vector_registers is not None:
            flags |= HAS_VECTORS
            vectors = sample.read_vector_registers()
            for register, value in vectors.items():
                pair = (int.from_bytes(value[at : at + 8], "little") for at in (0, 8))
                parts[Part.VECTORS] += _PACK[Part.VECTORS](*pair, register)
        if sample.places:
            parts[Part.PLACES] += b"".join([place.to_bytes(4, "little") for place in sample.places])
        parts[Part.REGISTERS] += _words(sample.registers)
        parts[Part.ADDRESSES] += _words(sample.kernel_chain)
        told = sample.told_chain
        if told is not None:
            flags |= _TOLD_BY[told.source] | (TOLD_CUT if told.cut else 0)
            parts[Part.ADDRESSES] += _words(told.addresses)
        self._add_slices(sample.slices)
        if sample.kernel_stack is not None:
            flags |= HAS_KERNEL_STACK
            self._add_kernel_stack(sample.kernel_stack)
        if sample.user_stack is not None:
            flags |= HAS_USER_STACK
            self._add_user_stack(sample.user_stack)
        parts[Part.SAMPLE] += _SAMPLE(
            sample.time_ns,
            sample.cpu,
            sample.pid,
            sample.tid,
            sample.known,
            sample.weight,
            sample.signal,
            len(sample.places),
            len(sample.registers),
            len(sample.slices),
            len(sample.kernel_chain),
            len(told.addresses) if told is not None else 0,
            len(vectors),
            flags,
            sample.machine,
            sample.signature_mask or 0,
        )
        self.size += 128 + 8 * (len(sample.registers) + len(sample.kernel_chain)) + 24 * len(vectors)
        self.samples += 1
        return Part.SAMPLE

    def _add_slices(self, slices: list[StackSlice]) -> None:
        rows = self._parts[Part.SLICES]
        for piece in slices:
            rows += _SLICE(piece.address, len(piece.data), piece.cut)
            self._memory += piece.data
            self.size += 16 + len(piece.data)

    def _add_kernel_stack(self, stack: KernelStack) -> None:
        self._parts[Part.KERNEL_STACKS] += _PACK[Part.KERNEL_STACKS](
            stack.known,
            stack.slide,
            stack.stop_detail,
            stack.stop,
            stack.flags,
            len(stack.registers),
            len(stack.slices),
            len(stack.oracle),
        )
        self._parts[Part.REGISTERS] += _words(stack.registers)
        self._parts[Part.ADDRESSES] += _words(stack.oracle)
        self._add_slices(stack.slices)
        self.size += 48 + 8 * (len(stack.registers) + len(stack.oracle))

    def _add_user_stack(self, stack: UserStack) -> None:
        self._parts[Part.USER_STACKS] += _PACK[Part.USER_STACKS](
            stack.known,
            stack.stop_detail,
            stack.start_stack,
            stack.generation,
            stack.stop,
            stack.flags,
            len(stack.registers),
            len(stack.chain),
        )
        self._parts[Part.REGISTERS] += _words(stack.registers)
        self._parts[Part.ADDRESSES] += _words(stack.chain)
        self.size += 48 + 8 * (len(stack.registers) + len(stack.chain))
