"""Captures of the kernel module, written here record by record: what is read of them, whole or damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from kernel_module.packed_record import hit_record

from ptap.capture_conversion import convert
from ptap_target.collector import CAPTURE_MAGIC
from relay_reader import module_records, record_layout, record_schema
from relay_reader.capture import RecordsLost, Sample, StackSlice, ThreadNamed
from relay_reader.capture_file.reader import CaptureFile
from relay_reader.module_capture import MAGIC, CpuAccount, ModuleCapture, ModuleCaptureError

_DESCRIPTION = {"probes": [{"name": 'kernel.function("f")'}]}


def _words(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


def _finished(**fields) -> bytes:
    values = {field.name: 0 for field in record_schema.FINISHED.subcons}
    values |= {"magic": record_layout.RECORD_MAGIC, "version": record_layout.RECORD_VERSION}
    values |= {"kind": record_layout.RECORD_KIND_FINISHED, "length": record_layout.FINISHED_SIZE} | fields
    return record_schema.FINISHED.build(values)


def _hit(time_ns: int, cpu: int, sequence: int, dropped: int, tid: int = 7) -> bytes:
    return hit_record(
        registers=dict(enumerate(range(17))), chain=[0xFFFF_FFFF_8100_0010, 0xFFFF_FFFF_8100_0020], oracle=[9],
        runs=[(0xFFFF_8000_0000_1000, [5, 6])], slide=0x200000, unread=1, comm=b"a\xffb".ljust(16, b"\0"),
        time_ns=time_ns, cpu=cpu, sequence=sequence, dropped=dropped, pid=5, tid=tid,
    )  # fmt: skip


def _capture(tmp_path: Path, records: bytes) -> ModuleCapture:
    path = tmp_path / "capture"
    path.write_bytes(CAPTURE_MAGIC + json.dumps(_DESCRIPTION).encode() + b"\n" + records)
    return ModuleCapture(path)


def test_writer_and_reader_have_one_magic():
    assert MAGIC == CAPTURE_MAGIC


def test_a_hit_is_read_as_it_was_written(tmp_path):
    (named, sample) = _capture(tmp_path, _hit(100, 1, 1, 0)).events()
    assert named == ThreadNamed(100, 5, 7, "a\\xffb")
    assert isinstance(sample, Sample) and sample.kernel_stack is not None
    assert sample.kernel_chain == (0xFFFF_FFFF_8100_0010, 0xFFFF_FFFF_8100_0020)
    assert sample.kernel_stack.slices == [StackSlice(0xFFFF_8000_0000_1000, _words(5, 6))]
    assert sample.kernel_stack.oracle == (9,)
    assert sample.kernel_stack.registers == tuple(range(17)) and sample.kernel_stack.slide == 0x200000
    assert (sample.time_ns, sample.cpu, sample.pid, sample.tid, sample.places) == (100, 1, 5, 7, (0,))


def test_hits_come_in_time_order_and_losses_where_they_were(tmp_path):
    records = _hit(30, 0, 5, 3) + _hit(50, 0, 6, 3) + _hit(20, 1, 1, 0) + _hit(40, 1, 4, 2)
    records += _finished(cpu=0, hits=9, dropped=6, missed=11, unwanted=2, others=1)
    records += _finished(cpu=1, hits=4, dropped=2)
    capture = _capture(tmp_path, records)
    events = [event for event in capture.events() if not isinstance(event, ThreadNamed)]
    assert [event.time_ns for event in events if isinstance(event, Sample)] == [20, 30, 40, 50]
    lost = [event for event in events if isinstance(event, RecordsLost)]
    assert lost == [RecordsLost(30, 0, 3), RecordsLost(40, 1, 2), RecordsLost(0, 0, 3)]
    assert capture.accounts == [CpuAccount(0, 9, 6, 11, 2, 1), CpuAccount(1, 4, 2, 0, 0, 0)]


def test_a_capture_file_holds_the_same_events(tmp_path):
    records = _hit(30, 0, 4, 3) + _hit(50, 0, 5, 3) + _hit(20, 1, 1, 0) + _finished(cpu=0, hits=8, dropped=6)
    expected = list(_capture(tmp_path, records).events())
    assert convert(str(tmp_path / "capture"), str(tmp_path / "a.ptap")) == []
    file = CaptureFile(str(tmp_path / "a.ptap"))
    assert [event for _, event in file.events()] == expected
    assert [probe.probe for probe in file.sources[0].probes] == ['kernel.function("f")']
    assert file.ends is not None and (file.ends[0].samples, file.ends[0].lost) == (3, 6)


def _of(kind: type, capture: ModuleCapture) -> list:
    return [event for event in capture.events() if isinstance(event, kind)]


def test_a_gap_in_a_cpus_numbers_is_counted_where_it_was(tmp_path):
    """Hits 3 and 4 of CPU 0 and the last one of CPU 1 are in no record, and were not dropped."""
    records = _hit(10, 0, 1, 0) + _hit(20, 0, 2, 0) + _hit(15, 1, 1, 0) + _hit(50, 0, 6, 1) + _hit(55, 1, 2, 0)
    records += _finished(cpu=0, hits=6, dropped=1) + _finished(cpu=1, hits=3)
    told = [event for event in _capture(tmp_path, records).events() if not isinstance(event, ThreadNamed)]
    assert [each if isinstance(each, RecordsLost) else each.time_ns for each in told] == [
        10, 15, 20, RecordsLost(50, 0, 2), RecordsLost(50, 0, 1), 50, 55, RecordsLost(0, 1, 1),
    ]  # fmt: skip
    # Where the session has refused hits, the numbers do not tell which ones are missing.
    records += _finished(cpu=0, hits=6, dropped=1, unwanted=2)
    records = records.replace(_finished(cpu=0, hits=6, dropped=1), b"")
    assert _of(RecordsLost, _capture(tmp_path, records)) == [RecordsLost(50, 0, 1), RecordsLost(0, 1, 1)]


def test_a_capture_that_was_cut_off_anywhere_has_the_hits_before(tmp_path):
    """As its writer leaves it that was killed, or whose disk was full."""
    each = len(_hit(1, 0, 1, 0))
    records = b"".join(_hit(number, 0, number, 0) for number in (1, 2, 3))
    for size in range(each, len(records)):
        capture = _capture(tmp_path, records[:size])
        assert [sample.time_ns for sample in _of(Sample, capture)] == [1, 2, 3][: size // each]
        whole = size % each == 0
        assert len(capture.problems) == (not whole) and all("cut off" in line for line in capture.problems)
    for size in range(1, each):
        with pytest.raises(ModuleCaptureError, match="cut off"):
            _capture(tmp_path, records[:size])


@pytest.mark.parametrize("foreign", [bytes(8), b"PTRR" * 40, b"\xff" * (3 << 20), b"damaged "])
def test_what_is_no_record_is_passed_over(tmp_path, foreign):
    hits = [_hit(number, 0, number, 0) for number in (1, 2, 3)]
    capture = _capture(tmp_path, hits[0] + foreign + hits[1] + hits[2] + foreign)
    assert [sample.time_ns for sample in _of(Sample, capture)] == [1, 2, 3] and _of(RecordsLost, capture) == []
    assert len(capture.problems) == 2 and all(f"{len(foreign)} bytes" in line for line in capture.problems)


def test_any_damaged_byte_costs_its_record_and_no_other(tmp_path):
    hits = [_hit(number, 0, number, 0) for number in (1, 2, 3)]
    for place in range(len(hits[1])):
        record = bytearray(hits[1])
        record[place] ^= 0x41
        capture = _capture(tmp_path, hits[0] + bytes(record) + hits[2])
        events = [event for event in capture.events() if isinstance(event, Sample | RecordsLost)]
        times = {event.time_ns for event in events if isinstance(event, Sample)}
        assert {1, 3} <= times
        if len([event for event in events if isinstance(event, Sample)]) == 2:
            assert capture.problems and RecordsLost(3, 0, 1) in events


def test_hits_are_read_a_piece_of_each_cpu_at_a_time(tmp_path, monkeypatch):
    """Two CPUs whose hits come in turns of forty: what waits is a piece of each, whatever the file's size."""
    each = len(_hit(1, 0, 1, 0))
    records = b"".join(
        _hit(80 * turn + 2 * number + cpu, cpu, 40 * turn + number + 1, 0)
        for turn in range(4)
        for cpu in (0, 1)
        for number in range(40)
    )
    monkeypatch.setattr(module_records, "_PIECE", 5 * each)
    read: list[int] = []
    monkeypatch.setattr(os, "pread", lambda fd, count, at, real=os.pread: read.append(count) or real(fd, count, at))
    capture = _capture(tmp_path, records)
    assert max(read) == 5 * each
    read.clear()
    events = (event for event in capture.events() if isinstance(event, Sample))
    times = []
    for number, event in enumerate(events, 1):
        times.append(event.time_ns)
        assert sum(read) <= (number + 2 * 5 + 2) * each
    assert times == list(range(320)) and sum(read) == len(records)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "other").write_bytes(b"\x7fELF")
    with pytest.raises(ModuleCaptureError, match="no capture"):
        ModuleCapture(tmp_path / "other")
