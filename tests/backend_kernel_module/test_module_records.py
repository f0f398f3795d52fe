"""What the kernel module's back end does with records and events, without a kernel that has it."""

from __future__ import annotations

import os

import pytest
from kernel_module.packed_record import hit_record

from ptap.backend.kernel_module.followed_threads import FollowedThreads
from ptap.backend.kernel_module.module_ring import MAGIC, ModuleRing
from ptap_target.session_folder import SessionError
from relay_reader import record_layout, record_schema
from relay_reader.capture import (
    Mapping,
    MappingAdded,
    ProcessExeced,
    ProcessForked,
    RecordsLost,
    Sample,
    ThreadExited,
    ThreadNamed,
)
from relay_reader.module_capture import ModuleCaptureError, RecordStream


def _finished(**fields) -> bytes:
    values = {field.name: 0 for field in record_schema.FINISHED.subcons}
    values |= {"magic": record_layout.RECORD_MAGIC, "version": record_layout.RECORD_VERSION}
    values |= {"kind": record_layout.RECORD_KIND_FINISHED, "length": record_layout.FINISHED_SIZE} | fields
    return record_schema.FINISHED.build(values)


def _ring(content: bytes, size: int = 1 << 20) -> ModuleRing:
    readable, writable = os.pipe()
    with open(writable, "wb") as file:
        file.write(content)
    return ModuleRing(readable, 3, size)


def test_records_come_out_whole_with_their_times():
    first = hit_record(chain=[1, 2], time_ns=70)
    last = _finished(time_ns=90)
    out = []
    ring = _ring(first + last)
    assert ring.drain({}, out, keep_samples=True) == len(first + last)
    assert out == [(70, 3, first), (90, 3, last)] and all(record.startswith(MAGIC) for _, _, record in out)
    ring.close()
    ring.close()


def test_where_there_is_no_room_records_stay_in_the_kernel():
    ring = _ring(hit_record())
    out = []
    assert ring.drain({}, out, keep_samples=False) == 0 and out == []
    assert ring.drain({}, out, keep_samples=True) and len(out) == 1 and ring.skipped == 0
    ring.close()


@pytest.mark.parametrize("damaged", [b"x" * 300, hit_record()[:-8], hit_record() + b"PTRR", hit_record(length=1 << 20)])
def test_what_is_no_record_is_an_error(damaged):
    ring = _ring(damaged)
    with pytest.raises(SessionError, match="no record at CPU 3"):
        ring.drain({}, [], keep_samples=True)
    ring.close()


def test_a_stream_tells_names_once_and_losses_by_difference(tmp_path):
    stream = RecordStream(tmp_path)
    hits = [hit_record(time_ns=time, tid=5, pid=5, comm=b"a".ljust(16, b"\0"), dropped=dropped)
            for time, dropped in ((10, 0), (20, 3), (30, 3))]  # fmt: skip
    end = _finished(hits=8, dropped=5, time_ns=40)
    events = [event for record in (*hits, end) for event in stream.decode(record)]
    assert [type(event) for event in events] == [ThreadNamed, Sample, RecordsLost, Sample, Sample, RecordsLost]
    assert [event.count for event in events if isinstance(event, RecordsLost)] == [3, 2]
    assert [(account.hits, account.dropped) for account in stream.accounts] == [(8, 5)]


def test_a_stream_refuses_a_damaged_record(tmp_path):
    with pytest.raises(ModuleCaptureError, match="damaged"):
        list(RecordStream(tmp_path).decode(hit_record(version=99)))


def test_the_targets_processes_are_followed_from_exec_or_fork_to_their_last_thread():
    followed = FollowedThreads()
    assert 10 not in followed
    followed.apply(ProcessExeced(1, 10, "program"))
    followed.apply(ProcessForked(2, 11, 10, 11, 10))
    followed.apply(ProcessForked(3, 10, 10, 12, 10))  # a thread
    assert 10 in followed and 11 in followed and 12 not in followed
    followed.apply(ThreadExited(4, 10, 10))
    assert 10 in followed, "its other thread goes on"
    followed.apply(ThreadExited(5, 10, 12))
    assert 10 not in followed and 11 in followed
    followed.apply(ThreadExited(6, 99, 99))  # of nobody that was followed
    followed.apply(MappingAdded(7, 20, Mapping(0, 4096, 0, "/bin/x")))
    assert 20 in followed
