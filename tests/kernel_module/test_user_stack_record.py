"""The part of a record that tells of the user's stack, written here field by field: what is read of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kernel_module.packed_record import UserPart, hit_record

from cfi_tables.layout import StopReason
from ptap_target.collector import CAPTURE_MAGIC
from ptap_target.space_messages import SpaceMapping, space_record
from relay_reader import record_layout as layout
from relay_reader import record_schema as schema
from relay_reader.capture import EM_386, MappingAdded, RecordsLost, Sample, StackSlice
from relay_reader.module_capture import ModuleCapture, ModuleCaptureError

_KNOWN = 1 << 3 | 1 << 7 | 1 << 16
_FLAGS = layout.HIT_FLAG_USER_STACK | layout.HIT_FLAG_USER_FLAT


_FLAT = (0x8000, 8, (3).to_bytes(8, "little"))
_REGISTERS = {3: 33, 7: 77, 16: 0x401000}


def _user(**fields) -> UserPart:
    told = {"registers": _REGISTERS, "chain": [0x401000, 0x401100], "runs": [(0x7000, [1, 2])], "stop": 1}
    return UserPart(**told | {"stop_detail": 0x401100, "generation": 6, "start_stack": 0x9000} | fields)


_PROGRAMS_OWN = _user(registers={}, known=_KNOWN)


def _hit(kernel_frames: int, user: UserPart | None, flat: tuple[int, int, bytes] | None = _FLAT, **fields) -> bytes:
    registers = dict(zip(range(17), range(100, 117), strict=True))
    values = {"pid": 5, "tid": 5, "time_ns": 9} | fields
    return hit_record(registers=registers, chain=range(kernel_frames), user=user, flat=flat, **values)


def _capture(folder: Path, records: bytes) -> ModuleCapture:
    path = folder / "capture"
    path.write_bytes(CAPTURE_MAGIC + json.dumps({"probes": []}).encode() + b"\n" + records)
    return ModuleCapture(path)


def _sample(folder: Path, records: bytes) -> Sample:
    (found,) = (event for event in _capture(folder, records).events() if isinstance(event, Sample))
    return found


def test_behind_frames_of_the_kernel_come_the_users_with_their_registers(tmp_path):
    sample = _sample(tmp_path, _hit(3, _user()))
    user = sample.user_stack
    assert user is not None and sample.kernel_stack is not None and len(sample.kernel_chain) == 3
    assert (user.chain, user.stop, user.stop_detail) == ((0x401000, 0x401100), StopReason.NO_MAPPING, 0x401100)
    assert (user.generation, user.start_stack, user.flags) == (6, 0x9000, _FLAGS)
    assert sample.known == _KNOWN and (sample.registers[3], sample.registers[7], sample.registers[16]) == (
        33, 77, 0x401000,
    )  # fmt: skip
    assert sample.registers[0] == 0
    # The last one is the flat copy, which its limit ended.
    assert sample.slices == [StackSlice(0x7000, bytes((1, *bytes(7), 2, *bytes(7)))), StackSlice(*_FLAT[::2], cut=True)]


def test_registers_of_32_bit_code_have_its_own_numbers(tmp_path):
    """eax, ecx, edx, ebx, esp, ebp, esi, edi and eip (System V ABI i386), from where they lie in pt_regs."""
    flags = _FLAGS | layout.HIT_FLAG_USER_NARROW
    by_name = {"ax": 0, "dx": 1, "cx": 2, "bx": 3, "si": 4, "di": 5, "bp": 6, "sp": 7, "ip": 16}
    registers = {number: 0xF0000000_00000000 + number for number in by_name.values()}
    sample = _sample(tmp_path, _hit(3, _user(registers=registers, runs=[]), flags=flags))
    own = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "ip")
    assert sample.registers == tuple(by_name[name] for name in own)
    assert (sample.machine, sample.known) == (EM_386, (1 << 9) - 1)
    kept = {number: number for name, number in by_name.items() if name not in ("ax", "cx", "dx")}
    sample = _sample(tmp_path, _hit(3, _user(registers=kept, runs=[]), flags=flags))
    assert sample.known == 0b1_1111_1000


def test_a_flat_copy_that_ended_before_its_limit_is_the_stacks_end(tmp_path):
    assert not _sample(tmp_path, _hit(3, _user(), (0x8000, 64, _FLAT[2]))).slices[-1].cut
    assert not _sample(tmp_path, _hit(3, _user(), None)).slices[-1].cut


def test_a_probe_of_a_program_has_the_hits_registers(tmp_path):
    sample = _sample(tmp_path, _hit(0, _PROGRAMS_OWN))
    assert sample.kernel_stack is None and sample.kernel_chain == ()
    assert sample.registers == tuple(range(100, 117)) and sample.known == _KNOWN


def test_what_was_told_comes_before_the_hit(tmp_path):
    mapping = SpaceMapping(0x400000, 0x402000, 0, 1, "/a", None, 0, 0)
    record = space_record(1, 5, 6, 0x9000, [mapping], {})
    events = list(_capture(tmp_path, _hit(0, _PROGRAMS_OWN) + record).events())
    assert isinstance(events[-1], Sample)
    assert [event.mapping.path for event in events if isinstance(event, MappingAdded)] == ["/a"]
    damaged = _capture(tmp_path, record.replace(b'"generation"', b'"degeneration"'[:12]))
    assert len(damaged.problems) == 1 and "mappings of a process cannot be read" in damaged.problems[0]


def _is_refused(folder: Path, record: bytes) -> bool:
    """Whether there is no hit in it, and it is told why, while those around it are read."""
    sound = _hit(0, _PROGRAMS_OWN, sequence=3)
    capture = _capture(folder, _hit(0, _PROGRAMS_OWN, sequence=1) + record + sound)
    found = [event for event in capture.events() if isinstance(event, Sample | RecordsLost)]
    told = len(capture.problems) == 1 and "1 records do not fill them" in capture.problems[0]
    return told and [type(event) for event in found] == [Sample, RecordsLost, Sample]


def test_a_part_that_does_not_fill_its_record_costs_the_hit(tmp_path):
    whole = _hit(3, _user())
    for size in range(layout.HIT_SIZE, len(whole), 8):
        cut = bytearray(whole[:size])
        cut[layout.HIT_LENGTH : layout.HIT_LENGTH + 4] = size.to_bytes(4, "little")
        assert _is_refused(tmp_path, bytes(cut))
    words = int.from_bytes(whole[layout.HIT_WORD_COUNT : layout.HIT_WORD_COUNT + 2], "little")
    for field, value in (
        ("frame_count", 4), ("user_frame_count", 3), ("user_run_count", 2), ("user_run_count", 0), ("run_count", 1),
        ("user_known", 1), ("user_known", 0x1FFFF), ("user_known", 1 << 17 | 3), ("oracle_count", 1), ("known", 1),
        ("flags", 0), ("flags", layout.HIT_FLAG_USER_STACK), ("word_count", words - 1), ("word_count", words + 1),
    ):  # fmt: skip
        assert _is_refused(tmp_path, _hit(3, _user(), **{field: value}))


def test_every_record_has_what_its_kind_has(tmp_path):
    for kind in layout.RecordKind:
        head = {
            "magic": layout.RECORD_MAGIC,
            "length": layout.RECORD_HEAD_SIZE,
            "version": layout.RECORD_VERSION,
            "cpu": 0,
        }
        with pytest.raises(ModuleCaptureError, match="is damaged"):
            _capture(
                tmp_path,
                schema.RECORD_HEAD.build(head | {"version": layout.RECORD_VERSION, "kind": int(kind), "time_ns": 0}),
            )
