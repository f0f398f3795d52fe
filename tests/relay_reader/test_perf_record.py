"""Records built by hand after linux/perf_event.h, and cut at every byte."""

from __future__ import annotations

import struct

import pytest

from relay_reader import perf_record, perf_side_band
from relay_reader.capture import EM_386, MappingAdded, RecordsLost, Sample
from relay_reader.perf_record import EventLayout, RecordDecoder, RecordFault, compact_sample

BASE = (
    perf_record.SAMPLE_IDENTIFIER
    | perf_record.SAMPLE_IP
    | perf_record.SAMPLE_TID
    | perf_record.SAMPLE_TIME
    | perf_record.SAMPLE_CPU
)
FULL = BASE | perf_record.SAMPLE_CALLCHAIN | perf_record.SAMPLE_REGS_USER | perf_record.SAMPLE_STACK_USER
KERNEL, USER = (1 << 64) - 128, (1 << 64) - 512


def record(kind: int, body: bytes, misc: int = 2) -> bytes:
    return struct.pack("<IHH", kind, misc, 8 + len(body)) + body


def sample(used: int, reserved: int = 64, abi: int = 2, chain: tuple[int, ...] = ()) -> bytes:
    head = struct.pack("<QQIIQIxxxx", 77, 0x401000, 10, 11, 5000, 3)
    recorded = struct.pack(f"<Q{len(chain)}Q", len(chain), *chain)
    registers = struct.pack("<Q17Q", abi, *(100 + number for number in range(17))) if abi else bytes(8)
    stack = struct.pack("<Q", reserved)
    if reserved:
        stack += bytes(range(reserved)) + struct.pack("<Q", used)
    return record(perf_record.RECORD_SAMPLE, head + recorded + registers + stack)


def decoder() -> RecordDecoder:
    return RecordDecoder({77: EventLayout(FULL, regs_user=perf_record.ALL_USER_REGISTERS, places=(4,))})


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("used", [0, 8, 40, 64])
def test_a_sample(used: int, compacted: bool) -> None:
    reader = decoder()
    raw = sample(used, chain=(KERNEL, 0xFFFFFFFF81000000, 0xFFFFFFFF81000010, USER, 0x401000))
    if compacted:
        padded = b"\xee" * 16 + raw + b"\xee" * 16
        raw = compact_sample(padded, 16, len(raw), reader.layouts[77])
    event = reader.decode(raw, compacted=compacted)
    assert isinstance(event, Sample)
    assert (event.time_ns, event.cpu, event.pid, event.tid, event.places) == (5000, 3, 10, 11, (4,))
    # perf's order is ax bx cx dx si di bp sp ip r8…; DWARF's ax dx cx bx si di bp sp r8… ip.
    assert event.registers == (100, 103, 102, 101, 104, 105, 106, 107, *range(109, 117), 108)
    assert event.kernel_chain == (0xFFFFFFFF81000000, 0xFFFFFFFF81000010)
    if used:
        (part,) = event.slices
        assert (part.address, part.data, part.cut) == (107, bytes(range(used)), used == 64)
    else:
        assert event.slices == []
    assert not reader.faults


def test_a_sample_without_user_context() -> None:
    event = decoder().decode(sample(0, reserved=0, abi=0))
    assert isinstance(event, Sample)
    assert (event.registers, event.known, event.slices) == ((), 0, [])


def test_registers_of_a_32_bit_process_are_those_of_i386() -> None:
    reader = decoder()
    event = reader.decode(sample(8, abi=1))
    assert isinstance(event, Sample)
    # DWARF's order is ax cx dx bx sp bp si di ip.
    assert (event.machine, event.registers) == (EM_386, (100, 102, 103, 101, 107, 106, 104, 105, 108))
    assert event.known == 0x1FF and event.slices[0].address == 107
    assert not reader.faults


def test_registers_of_no_known_kind_are_not_given() -> None:
    reader = decoder()
    event = reader.decode(sample(8, abi=3))
    assert isinstance(event, Sample)
    assert (event.registers, event.slices) == ((), [])
    assert reader.faults == {RecordFault.UNKNOWN_REGISTERS: 1}


def test_every_cut_of_a_record_is_a_counted_fault() -> None:
    whole = sample(40, chain=(KERNEL, 0xFFFFFFFF81000000))
    for size in range(len(whole)):
        reader = decoder()
        assert reader.decode(whole[:size]) is None
        assert reader.faults == {RecordFault.TRUNCATED: 1}
        # The header may agree with the cut.
        if size >= 8:
            shorter = whole[:6] + struct.pack("<H", size) + whole[8:size]
            reader = decoder()
            assert reader.decode(shorter) is None
            assert sum(reader.faults.values()) == 1


def test_an_impossible_stack_size_or_chain_length_is_a_fault() -> None:
    for changed in (sample(1 << 40), sample(65)):
        reader = decoder()
        assert reader.decode(changed) is None
        assert reader.faults == {RecordFault.TRUNCATED: 1}
    raw = bytearray(sample(8))
    raw[48:56] = struct.pack("<Q", 1 << 60)
    reader = decoder()
    assert reader.decode(raw) is None
    assert reader.faults == {RecordFault.TRUNCATED: 1}


def test_a_sample_of_an_undeclared_event_is_a_fault() -> None:
    reader = decoder()
    raw = bytearray(sample(8))
    raw[8] = 78
    assert reader.decode(raw) is None
    assert reader.faults == {RecordFault.UNKNOWN_EVENT: 1}


TRAILER = struct.pack("<IIQIxxxxQ", 10, 11, 6000, 1, 77)


def test_lost_records() -> None:
    body = struct.pack("<QQ", 77, 42) + TRAILER
    assert decoder().decode(record(perf_side_band.RECORD_LOST, body)) == RecordsLost(6000, 1, 42)
    body = struct.pack("<Q", 9) + TRAILER
    assert decoder().decode(record(perf_side_band.RECORD_LOST_SAMPLES, body)) == RecordsLost(6000, 1, 9)


@pytest.mark.parametrize(("protection", "misc", "told"), [(5, 0, True), (1, 0, False), (5, 1 << 13, False)])
def test_only_executable_mappings_are_told(protection: int, misc: int, told: bool) -> None:
    body = struct.pack("<IIQQQ24xII", 10, 11, 0x1000, 0x2000, 0x3000, protection, 2) + b"/lib/x\0\0" + TRAILER
    event = decoder().decode(record(perf_side_band.RECORD_MMAP2, body, misc))
    if not told:
        assert event is None
        return
    assert isinstance(event, MappingAdded)
    mapping = event.mapping
    assert (mapping.start, mapping.end, mapping.file_offset, mapping.path) == (0x1000, 0x3000, 0x3000, "/lib/x")


def test_a_mapping_with_a_build_id() -> None:
    body = struct.pack("<IIQQQB3x20sII", 10, 11, 0x1000, 0x2000, 0, 16, bytes(range(1, 21)), 5, 2) + b"/x\0" + bytes(5)
    event = decoder().decode(record(perf_side_band.RECORD_MMAP2, body + TRAILER, 1 << 14))
    assert isinstance(event, MappingAdded)
    assert event.mapping.build_id == bytes(range(1, 17))
