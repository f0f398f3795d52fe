"""Captures of the kernel module, written here record by record: what is read of them, whole or damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_module.packed_record import hit_record

from ptap.capture_conversion import convert
from ptap_target.collector import CAPTURE_MAGIC
from relay_reader import record_layout, record_schema
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
    records = _hit(30, 0, 5, 3) + _hit(50, 0, 6, 3) + _hit(20, 1, 1, 0) + _finished(cpu=0, hits=9, dropped=6)
    expected = list(_capture(tmp_path, records).events())
    assert convert(str(tmp_path / "capture"), str(tmp_path / "a.ptap")) == []
    file = CaptureFile(str(tmp_path / "a.ptap"))
    assert [event for _, event in file.events()] == expected
    assert [probe.probe for probe in file.sources[0].probes] == ['kernel.function("f")']
    assert file.ends is not None and (file.ends[0].samples, file.ends[0].lost) == (3, 6)


def test_a_capture_that_is_cut_off_anywhere_is_an_error_or_has_fewer_hits(tmp_path):
    records = _hit(1, 0, 1, 0) + _hit(2, 0, 2, 0)
    for size in range(len(records)):
        if size % (len(records) // 2) == 0:
            assert len([e for e in _capture(tmp_path, records[:size]).events() if isinstance(e, Sample)]) == (size > 0)
            continue
        with pytest.raises(ModuleCaptureError, match="record at byte"):
            _capture(tmp_path, records[:size])


@settings(deadline=None)
@given(st.integers(0, len(_hit(1, 0, 1, 0)) - 1), st.integers(0, 255))
def test_damage_is_an_error_or_other_values(tmp_path_factory, place, value):
    records = bytearray(_hit(1, 0, 1, 0))
    records[place] = value
    path = tmp_path_factory.mktemp("damaged") / "capture"
    path.write_bytes(CAPTURE_MAGIC + json.dumps(_DESCRIPTION).encode() + b"\n" + records)
    try:
        capture = ModuleCapture(path)
    except ModuleCaptureError as error:
        assert "record at byte 0" in str(error)
    else:
        assert len([event for event in capture.events() if isinstance(event, Sample)]) <= 1


def test_another_file_is_refused(tmp_path):
    (tmp_path / "other").write_bytes(b"\x7fELF")
    with pytest.raises(ModuleCaptureError, match="no capture"):
        ModuleCapture(tmp_path / "other")
