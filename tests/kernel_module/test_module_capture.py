"""Captures of the kernel module, written here record by record: what is read of them, whole or damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptap_target.collector import CAPTURE_MAGIC
from relay_reader import record_layout, record_schema
from relay_reader.capture import RecordsLost, Sample, StackSlice, ThreadNamed
from relay_reader.module_capture import MAGIC, CpuAccount, ModuleCapture, ModuleCaptureError

_DESCRIPTION = {"probes": [{"name": 'kernel.function("f")'}]}


def _words(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


def _record(kind=record_layout.RecordKind.HIT, payload=b"", **fields) -> bytes:
    values = {field.name: 0 for field in record_schema.HIT.subcons}
    values |= {"comm": bytes(16), "registers": [0] * 17}
    values |= {"magic": record_layout.RECORD_MAGIC, "version": record_layout.RECORD_VERSION, "kind": int(kind)}
    values |= {"length": record_layout.HIT_SIZE + len(payload)} | fields
    return record_schema.HIT.build(values) + payload


def _hit(time_ns: int, cpu: int, sequence: int, dropped: int, tid: int = 7) -> bytes:
    piece = record_schema.SLICE.build({"address": 0xFFFF_8000_0000_1000, "asked": 24, "copied": 16}) + _words(5, 6)
    payload = _words(0xFFFF_FFFF_8100_0010, 0xFFFF_FFFF_8100_0020) + piece + _words(9)
    return _record(
        payload=payload, time_ns=time_ns, cpu=cpu, sequence=sequence, dropped=dropped, pid=5, tid=tid,
        frame_count=2, slice_count=1, bytes_asked=24, bytes_copied=16, oracle_count=1, comm=b"a\xffb".ljust(16, b"\0"),
        registers=list(range(17)), known=0x1FFFF, slide=0x200000, stop=0,
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
    records += _record(
        record_layout.RecordKind.FINISHED,
        cpu=0,
        sequence=9,
        dropped=6,
        stop_detail=11,
        slide=2,
        registers=[1] + [0] * 16,
    )
    records += _record(record_layout.RecordKind.FINISHED, cpu=1, sequence=4, dropped=2)
    capture = _capture(tmp_path, records)
    events = [event for event in capture.events() if not isinstance(event, ThreadNamed)]
    assert [event.time_ns for event in events if isinstance(event, Sample)] == [20, 30, 40, 50]
    lost = [event for event in events if isinstance(event, RecordsLost)]
    assert lost == [RecordsLost(30, 0, 3), RecordsLost(40, 1, 2), RecordsLost(0, 0, 3)]
    assert capture.accounts == [CpuAccount(0, 9, 6, 11, 2, 1), CpuAccount(1, 4, 2, 0, 0, 0)]


def test_a_capture_that_is_cut_off_anywhere_is_an_error_or_has_fewer_hits(tmp_path):
    records = _hit(1, 0, 1, 0) + _hit(2, 0, 2, 0)
    for size in range(len(records)):
        if size % (len(records) // 2) == 0:
            assert len([e for e in _capture(tmp_path, records[:size]).events() if isinstance(e, Sample)]) == (size > 0)
            continue
        with pytest.raises(ModuleCaptureError, match="record at byte"):
            _capture(tmp_path, records[:size])


@settings(deadline=None)
@given(st.integers(0, record_layout.HIT_SIZE + 39), st.integers(0, 255))
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
