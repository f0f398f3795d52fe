"""What the collector writes of address spaces: compared with the schema, and with what reads it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from kernel_module.packed_record import UserPart, hit_record

from ptap.kernel_module.messages import DEFAULT_FLAT_BYTES
from ptap.kernel_module.slice_mode import parse_slices
from ptap_target.elf_identity import read_identity
from ptap_target.space_follower import SpaceFollower
from ptap_target.space_messages import (
    USER_UNTOLD,
    SpaceMapping,
    space,
    space_record,
    target,
    untold_processes,
    user_table,
)
from relay_reader import record_layout as layout
from relay_reader import record_schema as schema
from relay_reader.capture import Mapping, MappingAdded, ProcessExeced, Sample, UserStack
from relay_reader.told_spaces import ToldSpaces

_MAPPINGS = [
    SpaceMapping(0x401000, 0x402000, 0x1000, 17, "/bin/a b", "00ff", 0x400000, 3),
    SpaceMapping(0x7F0000000000, 0x7F0000001000, 0, 0, "[vdso]", None, -0x1000, 0),
]


def _header(kind: layout.MessageKind) -> bytes:
    return schema.MESSAGE_HEADER.build(
        {"magic": layout.MESSAGE_MAGIC, "version": layout.RECORD_VERSION, "kind": int(kind)}
    )


def test_messages_are_those_of_the_schema():
    wanted = _header(layout.MessageKind.USER_TABLE) + schema.USER_TABLE_MESSAGE.build({"id": 5}) + b"table"
    assert user_table(5, b"table") == wanted
    head = {"generation": 9, "start_stack": 0x7FFFFFFFE000, "pid": 12, "mapping_count": 2}
    wanted = _header(layout.MessageKind.SPACE) + schema.SPACE_MESSAGE.build(head)
    for each in _MAPPINGS:
        values = {name: getattr(each, name) for name in ("start", "end", "file_offset", "inode", "table")}
        wanted += schema.SPACE_MAPPING.build(values | {"bias": each.bias % (1 << 64)})
    assert space(12, 9, 0x7FFFFFFFE000, _MAPPINGS) == wanted
    wanted = _header(layout.MessageKind.TARGET) + schema.TARGET_MESSAGE.build({"pid": 77, "reserved": 0})
    assert target(77) == wanted


def _finished() -> bytes:
    values = {field.name: 0 for field in schema.FINISHED.subcons}
    values |= {"magic": layout.RECORD_MAGIC, "version": layout.RECORD_VERSION, "kind": layout.RECORD_KIND_FINISHED}
    return schema.FINISHED.build(values | {"length": layout.FINISHED_SIZE, "hits": (1 << 64) - 1})


def test_hits_of_processes_that_are_not_known_are_seen():
    assert USER_UNTOLD == layout.HIT_FLAG_USER_UNTOLD
    user = UserPart(chain=[1, 2, 3])
    records = hit_record(user=user, pid=1) + hit_record(user=user, pid=2, flags=8 | USER_UNTOLD) + _finished()
    records += hit_record(pid=4, flags=USER_UNTOLD)
    assert untold_processes(records, 100) == {2, 4}
    assert untold_processes(records, 3) == {2}
    assert untold_processes(b"", 3) == untold_processes(records[:90], 3) == set()


def _sample(pid: int, time_ns: int, generation: int, start_stack: int = 50) -> Sample:
    stack = UserStack((), 0, (), 0, 0, generation, start_stack, 0)
    return Sample(time_ns, 0, pid, pid, (0,), (), 0, user_stack=stack)


def _told(spaces: ToldSpaces, time_ns: int, pid: int, generation: int, *paths: str, start_stack: int = 50) -> None:
    mappings = [
        SpaceMapping(0x1000 * index, 0x1000 * (index + 1), 0, 1, path, None, 0, 0)
        for index, path in enumerate(paths)
        if path
    ]
    record = space_record(time_ns, pid, generation, start_stack, mappings, {})
    head = schema.SPACE_TOLD.parse(record)
    assert (head.magic, head.kind, head.pid, head.time_ns) == (layout.RECORD_MAGIC, 8, pid, time_ns)
    assert head.length == len(record) and len(record) % 8 == 0
    spaces.add(head.time_ns, head.pid, record[layout.SPACE_TOLD_SIZE :])


def _paths(spaces: ToldSpaces, sample: Sample) -> list[str]:
    events = list(spaces.events_for(sample, "comm"))
    assert not events or events[0] == ProcessExeced(sample.time_ns, sample.pid, "comm")
    return [event.mapping.path for event in events if isinstance(event, MappingAdded)]


def test_a_hit_has_the_mappings_that_it_was_walked_by():
    spaces = ToldSpaces()
    _told(spaces, 100, 7, 1, "/a")
    _told(spaces, 200, 7, 2, "/a", "/b")
    assert _paths(spaces, _sample(7, 300, 1)) == ["/a"]
    assert list(spaces.events_for(_sample(7, 301, 1), "comm")) == []
    assert _paths(spaces, _sample(7, 302, 2)) == ["/a", "/b"]


def test_a_hit_that_had_none_has_those_before_and_after_it():
    spaces = ToldSpaces()
    _told(spaces, 100, 7, 1, "/a", "", "/gone")
    _told(spaces, 200, 7, 2, "/a", "/b")
    _told(spaces, 300, 7, 3, "/other", start_stack=60)
    assert _paths(spaces, _sample(7, 50, 0)) == ["/a", "/gone"]
    assert _paths(spaces, _sample(7, 150, 0)) == ["/a", "/gone", "/a", "/b"]
    assert _paths(spaces, _sample(7, 250, 0)) == ["/a", "/b"]
    assert _paths(spaces, _sample(7, 250, 0, 60)) == ["/other"]


def test_a_forked_process_that_nobody_saw_has_its_parents():
    spaces = ToldSpaces()
    _told(spaces, 100, 7, 1, "/a")
    assert _paths(spaces, _sample(8, 150, 0)) == ["/a"]
    assert _paths(spaces, _sample(9, 150, 0, 70)) == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"generation": 1, "start_stack": 2, "mappings": [[1]]}'])
def test_damaged_mappings_are_an_error(content):
    with pytest.raises(ValueError, match="cannot be read"):
        ToldSpaces().add(0, 1, content)


def test_mappings_come_back_as_they_were():
    spaces = ToldSpaces()
    record = space_record(1, 2, 3, 4, _MAPPINGS, {"ab": "AAEC"})
    json.loads(record[layout.SPACE_TOLD_SIZE :])
    spaces.add(1, 2, record[layout.SPACE_TOLD_SIZE :])
    (told,) = spaces.all()
    assert told.mappings[0] == Mapping(0x401000, 0x402000, 0x1000, "/bin/a b", b"\x00\xff")
    assert spaces.images == {b"\xab": b"\0\1\2"}


_NARROW = ["-m32", "-nostdlib", "-static", "-Wl,-e,main"]


@pytest.mark.parametrize("options", [["-no-pie"], ["-pie", "-fPIE"], ["-shared", "-fPIC"], ["-static"], _NARROW])
def test_an_elf_file_says_what_it_is(tmp_path, require_tool, options):
    """Against readelf: build-id, and the address of the code that lies at an offset."""
    require_tool("gcc", "gcc")
    require_tool("readelf", "binutils")
    (tmp_path / "a.c").write_text("int main(void) { return 0; }\n")
    program = tmp_path / "a"
    command = ["gcc", *options, "-Wl,--build-id", "-o", str(program), str(tmp_path / "a.c")]
    subprocess.run(command, check=True)
    listed = subprocess.run(["readelf", "-nlW", str(program)], capture_output=True, text=True, check=True).stdout
    identity = read_identity(str(program))
    assert identity is not None and identity.build_id is not None and f"Build ID: {identity.build_id}" in listed
    loads = [line.split() for line in listed.splitlines() if line.split()[:1] == ["LOAD"]]
    (code,) = [fields for fields in loads if "E" in "".join(fields[6:-1])]
    offset, address = int(code[1], 16), int(code[2], 16)
    assert identity.bias(0x5000_0000 + address, offset) == 0x5000_0000
    assert identity.bias(0x5000_0000, 1 << 40) is None


def test_what_is_no_elf_file_has_no_identity(tmp_path):
    for content in (b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01" + bytes(40), b"\x7fELF\x02\x01" + b"\xff" * 100):
        (tmp_path / "file").write_bytes(content)
        identity = read_identity(str(tmp_path / "file"))
        assert identity is None or (identity.build_id is None and not identity.code)


def test_what_of_the_stack_is_recorded():
    assert parse_slices("words") == (layout.Slices.WORDS, DEFAULT_FLAT_BYTES)
    assert parse_slices("none")[0] is layout.Slices.NONE and parse_slices("frames")[0] is layout.Slices.FRAMES
    assert parse_slices("flat:4099") == (layout.Slices.FLAT, 4096)
    for wrong in ("", "flat", "flat:", "flat:x", "flat:4", f"flat:{1 << 20}", "words:5", "all"):
        with pytest.raises(ValueError, match="flat"):
            parse_slices(wrong)


def test_a_process_is_seen_as_it_is_mapped():
    """The test's own process: what the follower reads is what the kernel lists."""
    follower = SpaceFollower(lambda build_id, path: None, lambda _: None)
    start_stack, mappings = follower._mappings_of(os.getpid())
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    listed = [line for line in lines if "x" in line[1] and line[-1] != "[vsyscall]"]
    assert [(f"{each.start:08x}-{each.end:08x}", each.inode) for each in mappings] == [
        (line[0], int(line[4])) for line in listed
    ]
    assert any(start <= start_stack < end for start, end in _stacks(lines))
    libc = next(each for each in mappings if "/libc.so" in each.path)
    assert libc.build_id is not None and libc.bias % 4096 == 0
    vdso = next((each for each in mappings if each.path == "[vdso]"), None)
    assert vdso is None or (vdso.bias == vdso.start and vdso.build_id is not None)


def _stacks(lines: list[list[str]]) -> list[tuple[int, int]]:
    ranges = [line[0].split("-") for line in lines if line[-1] == "[stack]"]
    return [(int(start, 16), int(end, 16)) for start, end in ranges]
