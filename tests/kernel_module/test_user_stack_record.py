"""The part of a record that tells of the user's stack, written here field by field: what is read of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cfi_tables.layout import StopReason
from ptap_target.collector import CAPTURE_MAGIC
from ptap_target.space_messages import SpaceMapping, space_record
from relay_reader import record_layout as layout
from relay_reader import record_schema as schema
from relay_reader.capture import MappingAdded, Sample, StackSlice
from relay_reader.module_capture import ModuleCapture, ModuleCaptureError

_KNOWN = 1 << 3 | 1 << 7 | 1 << 16
_FLAGS = layout.HIT_FLAG_USER_STACK | layout.HIT_FLAG_USER_FLAT


def _words(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


def _slice(address: int, asked: int, content: bytes) -> bytes:
    return schema.SLICE.build({"address": address, "asked": asked, "copied": len(content)}) + content


def _part(registers: bytes, **fields) -> bytes:
    payload = registers + _words(0x401000, 0x401100)
    payload += _slice(0x7000, 16, _words(1, 2)) + _slice(0x8000, 8, _words(3))
    values = {field.name: 0 for field in schema.USER_STACK.subcons}
    values |= {"known": _KNOWN, "frame_count": 2, "slice_count": 2, "stop": 1, "stop_detail": 0x401100}
    values |= {"generation": 6, "start_stack": 0x9000} | fields
    values["length"] = schema.USER_STACK.sizeof() + len(payload)
    return schema.USER_STACK.build(values) + payload


def _hit(kernel_frames: int, part: bytes, flags: int = _FLAGS) -> bytes:
    payload = _words(*range(kernel_frames)) + part
    values = {field.name: 0 for field in schema.HIT.subcons}
    values |= {"comm": bytes(16), "registers": list(range(100, 117)), "known": 0x1FFFF, "pid": 5, "tid": 5}
    values |= {"magic": layout.RECORD_MAGIC, "version": layout.RECORD_VERSION, "kind": int(layout.RecordKind.HIT)}
    values |= {"length": layout.HIT_SIZE + len(payload), "frame_count": kernel_frames, "flags": flags, "time_ns": 9}
    return schema.HIT.build(values) + payload


def _capture(folder: Path, records: bytes) -> ModuleCapture:
    path = folder / "capture"
    path.write_bytes(CAPTURE_MAGIC + json.dumps({"probes": []}).encode() + b"\n" + records)
    return ModuleCapture(path)


def _sample(folder: Path, records: bytes) -> Sample:
    (found,) = (event for event in _capture(folder, records).events() if isinstance(event, Sample))
    return found


def test_behind_frames_of_the_kernel_come_the_users_with_their_registers(tmp_path):
    sample = _sample(tmp_path, _hit(3, _part(_words(33, 77, 0x401000))))
    user = sample.user_stack
    assert user is not None and sample.kernel_stack is not None and len(sample.kernel_chain) == 3
    assert (user.chain, user.stop, user.stop_detail) == ((0x401000, 0x401100), StopReason.NO_MAPPING, 0x401100)
    assert (user.generation, user.start_stack, user.flags) == (6, 0x9000, _FLAGS)
    assert sample.known == _KNOWN and (sample.registers[3], sample.registers[7], sample.registers[16]) == (
        33, 77, 0x401000,
    )  # fmt: skip
    assert sample.registers[0] == 0
    # The last one is the flat copy, which its limit ended.
    assert sample.slices == [StackSlice(0x7000, _words(1, 2)), StackSlice(0x8000, _words(3), cut=True)]


def test_a_flat_copy_that_ended_before_its_limit_is_the_stacks_end(tmp_path):
    part = _part(_words(33, 77, 0x401000))
    longer = part[: -8 - schema.SLICE.sizeof()] + _slice(0x8000, 64, _words(3))
    assert not _sample(tmp_path, _hit(3, longer)).slices[-1].cut
    assert not _sample(tmp_path, _hit(3, part, layout.HIT_FLAG_USER_STACK)).slices[-1].cut


def test_a_probe_of_a_program_has_the_hits_registers(tmp_path):
    sample = _sample(tmp_path, _hit(0, _part(b"")))
    assert sample.kernel_stack is None and sample.kernel_chain == ()
    assert sample.registers == tuple(range(100, 117)) and sample.known == _KNOWN


def test_what_was_told_comes_before_the_hit(tmp_path):
    mapping = SpaceMapping(0x400000, 0x402000, 0, 1, "/a", None, 0, 0)
    record = space_record(1, 5, 6, 0x9000, [mapping], {})
    events = list(_capture(tmp_path, _hit(0, _part(b"")) + record).events())
    assert isinstance(events[-1], Sample)
    assert [event.mapping.path for event in events if isinstance(event, MappingAdded)] == ["/a"]
    with pytest.raises(ModuleCaptureError, match="record at byte 0 is damaged"):
        _capture(tmp_path, record.replace(b'"generation"', b'"degeneration"'[:12]))


def test_a_part_that_does_not_fill_its_record_is_an_error(tmp_path):
    whole = _part(_words(33, 77, 0x401000))
    for size in range(0, len(whole), 8):
        with pytest.raises(ModuleCaptureError, match="do not fill it"):
            _capture(tmp_path, _hit(3, whole[:size]))
    for field, value in (("frame_count", 3), ("slice_count", 3), ("slice_count", 1), ("known", 1), ("known", 0x1FFFF)):
        with pytest.raises(ModuleCaptureError, match="do not fill it"):
            _capture(tmp_path, _hit(3, _part(_words(33, 77, 0x401000), **{field: value})))
    with pytest.raises(ModuleCaptureError, match="do not fill it"):
        _capture(tmp_path, _hit(3, whole, flags=0))
