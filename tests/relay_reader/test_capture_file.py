"""The capture file: what goes in comes out, and of a damaged file comes out what is whole, with the rest counted."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay_reader import capture
from relay_reader.capture import Event, Mapping, MappingAdded, RecordsLost, Sample, StackSlice, ThreadNamed
from relay_reader.capture_file import chunk as container
from relay_reader.capture_file import writer as writing
from relay_reader.capture_file.chunk import ChunkFault, ChunkKind, packed_chunk
from relay_reader.capture_file.facts import MachineFacts, ProbeFacts, SourceEnd, SourceFacts, this_machine
from relay_reader.capture_file.reader import CaptureFile, CaptureFileError
from relay_reader.capture_file.row_layout import ROWS, Part, described_parts
from relay_reader.capture_file.writer import CaptureWriteError, CaptureWriter

_SIGNED = st.integers(-(1 << 62), 1 << 62)
_PID = st.integers(-1, 1 << 32)
_WORD = st.integers(0, (1 << 64) - 1)
_SMALL = st.integers(0, (1 << 31) - 1)
_TEXT = st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
_WORDS = st.lists(_WORD, max_size=18).map(tuple)
_SLICES = st.lists(st.builds(StackSlice, _WORD, st.binary(max_size=200), st.booleans()), max_size=4)
_KNOWN = st.integers(0, (1 << 17) - 1)
_REGISTERS = st.lists(_WORD, min_size=17, max_size=17).map(tuple)
_KERNEL_STACKS = st.builds(capture.KernelStack, _REGISTERS, _KNOWN, _SLICES, _SIGNED, _SMALL, _WORD, _SMALL, _WORDS)
_USER_STACKS = st.builds(capture.UserStack, _REGISTERS, _KNOWN, _WORDS, _SMALL, _WORD, _WORD, _WORD, _SMALL)
_SAMPLES = st.builds(
    Sample,
    *(_SIGNED, _PID, _PID, _PID, st.lists(_SMALL, max_size=3).map(tuple), _REGISTERS, _KNOWN, _SLICES),
    kernel_chain=_WORDS,
    kernel_stack=st.none() | _KERNEL_STACKS,
    user_stack=st.none() | _USER_STACKS,
    weight=_SIGNED,
    told_chain=st.none() | st.builds(capture.ToldChain, st.sampled_from(capture.ChainSource), _WORDS, st.booleans()),
    guest=st.booleans(),
    called=st.booleans(),
    signal=st.integers(0, 64),
)
_MAPPINGS = st.builds(Mapping, _WORD, _WORD, _WORD, _TEXT, st.none() | st.binary(max_size=20))
_EVENTS = st.one_of(
    _SAMPLES,
    st.builds(MappingAdded, _SIGNED, _PID, _MAPPINGS),
    st.builds(capture.ProcessForked, _SIGNED, _PID, _PID, _PID, _PID, st.booleans()),
    st.builds(capture.KernelCodeNamed, _SIGNED, _WORD, _WORD, _TEXT, st.booleans()),
    st.builds(capture.ProcessExeced, _SIGNED, _PID, _TEXT),
    st.builds(ThreadNamed, _SIGNED, _PID, _PID, _TEXT),
    st.builds(capture.ThreadExited, _SIGNED, _PID, _PID),
    st.builds(RecordsLost, _SIGNED, _PID, _SMALL),
    st.builds(capture.KernelSectionPlaced, _SIGNED, _SMALL, _SMALL, _WORD),
)
_NOT_STORED = {"read_memory", "read_vector_registers", "left_to_file"}
"""What only a live source has; a sample's vector registers are read when it is stored."""


def _written(path: Path, events: list[tuple[int, Event]], sources: int = 1) -> Path:
    writer = CaptureWriter(str(path), [SourceFacts(back_end=f"number {number}") for number in range(sources)])
    for source, event in events:
        writer.add(event, source)
    writer.close()
    return path


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(events=st.lists(st.tuples(st.integers(0, 2), _EVENTS), max_size=30), full=st.integers(1, 4000))
def test_events_come_out_as_they_went_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[tuple[int, Event]], full: int
) -> None:
    monkeypatch.setattr(writing, "FULL_CHUNK", full)
    file = CaptureFile(str(_written(tmp_path / "a.ptap", events, 3)))
    assert list(file.events()) == events
    assert not file.faults and not file.damage
    assert [facts.back_end for facts in file.sources.values()] == ["number 0", "number 1", "number 2"]
    assert file.ends is not None
    assert sum(end.samples for end in file.ends) == sum(isinstance(event, Sample) for _, event in events)


def test_a_sample_without_a_user_context_is_stored(tmp_path: Path) -> None:
    bare = Sample(1, 2, 3, 4, (), (), 0)
    assert list(CaptureFile(str(_written(tmp_path / "a", [(0, bare)]))).events()) == [(0, bare)]


def test_registers_that_no_machine_has_are_refused(tmp_path: Path) -> None:
    odd = [replace(_sample(1), registers=(1,) * 18), replace(_sample(1), known=1 << 17), Sample(1, 2, 3, 4, (), (), 1)]
    for sample in odd:
        file = CaptureFile(str(_written(tmp_path / "a", [(0, sample)])))
        assert [event for _, event in file.events()] == [RecordsLost(sample.time_ns, -1, 1)]
        assert file.faults == {ChunkFault.DAMAGED: 1}


def test_every_kind_of_event_and_every_field_is_stored(tmp_path: Path) -> None:
    """A kind or a field that the model gets must be stored, or listed here as one that cannot be."""
    kinds = set(capture.Event.__args__)  # type: ignore[attr-defined]
    examples: list[Event] = [
        MappingAdded(1, 2, Mapping(3, 4, 5, "/a", b"6")),
        capture.ProcessForked(1, 2, 3, 4, 5, inherits=False),
        capture.KernelCodeNamed(1, 2, 3, "bpf_prog", gone=True),
        capture.ProcessExeced(1, 2, "c"),
        ThreadNamed(1, 2, 3, "d"),
        capture.ThreadExited(1, 2, 3),
        RecordsLost(1, 2, 3),
        capture.KernelSectionPlaced(1, 2, 3, 4),
        _sample(1),
    ]
    assert {type(each) for each in examples} == kinds
    assert [event for _, event in CaptureFile(str(_written(tmp_path / "a", [(0, e) for e in examples]))).events()] == (
        examples
    )
    stored = _sample(1)
    for each in fields(Sample):
        default = each.default_factory() if callable(each.default_factory) else each.default
        assert each.name in _NOT_STORED or getattr(stored, each.name) != default, each.name


def test_vector_registers_are_read_when_a_sample_is_stored(tmp_path: Path) -> None:
    told = {17: bytes(range(16)), 32: b"\xff" * 16}
    sample = replace(_sample(1), read_vector_registers=lambda: told)
    ((_, back),) = CaptureFile(str(_written(tmp_path / "a", [(0, sample)]))).events()
    assert isinstance(back, Sample) and back.read_vector_registers is not None
    assert back.read_vector_registers() == told


def test_what_a_file_says_of_its_run(tmp_path: Path) -> None:
    facts = SourceFacts(
        this_machine(), "ptap 1", "perf", ("a", "b"), (3,), (ProbeFacts("p", True, "/x", 5, "aa", 7),), "depth() > 1"
    )
    writer = CaptureWriter(str(tmp_path / "a"), [facts, SourceFacts(MachineFacts("other"))])
    writer.add_blob("kallsyms", b"x" * 100_000, 1)
    writer.add(_sample(1))
    writer.close([SourceEnd(1, 2, ["a problem"]), SourceEnd()])
    file = CaptureFile(str(tmp_path / "a"))
    file.read_facts()
    assert file.sources == {0: facts, 1: SourceFacts(MachineFacts("other"))}
    list(file.events())
    assert file.blobs == {(1, "kallsyms"): b"x" * 100_000}
    assert file.ends == [SourceEnd(1, 2, ["a problem"]), SourceEnd()]


# --- damage


def _sample(number: int) -> Sample:
    random_bytes = random.Random(number).randbytes(300)
    return Sample(
        *(1000 + number, 1, 100, 101, (number % 3,), tuple(range(17)), 0x1FFFF),
        [StackSlice(0x7FFF0000, random_bytes, True)],
        (1, 2, 3),
        capture.KernelStack(tuple(range(17)), 3, [StackSlice(9, b"k")], 1, 2, 3, 4, (5,)),
        capture.UserStack(tuple(range(17)), 1, (2, 3), 4, 5, 6, 7, 8),
        told_chain=capture.ToldChain(capture.ChainSource.LAST_BRANCHES, (7, 8), cut=True),
        guest=True,
        weight=2,
        called=True,
        signal=11,
        machine=183,
        signature_mask=0x7F << 48,
    )


@pytest.fixture
def chunked(tmp_path: Path) -> tuple[bytes, list[list[Event]], list[int]]:
    """A file of several chunks: its bytes, the events of each of its chunks, and where each chunk begins."""
    groups: list[list[Event]] = [[_sample(10 * group + each) for each in range(5)] for group in range(6)]
    starts = []
    writer = CaptureWriter(str(tmp_path / "whole"), [SourceFacts()])
    starts.append(container.FILE_HEAD.size)
    for group in groups:
        starts.append(writer.bytes_written)
        for event in group:
            writer.add(event)
        writer.flush()
    starts.append(writer.bytes_written)
    writer.close()
    return (tmp_path / "whole").read_bytes(), [[], *groups, []], [*starts, (tmp_path / "whole").stat().st_size]


def _read(path: Path, content: bytes) -> tuple[CaptureFile, list[Event]]:
    path.write_bytes(content)
    file = CaptureFile(str(path))
    return file, [event for _, event in file.events()]


def test_a_file_that_was_cut_loses_the_last_chunk_at_most(
    tmp_path: Path, chunked: tuple[bytes, list[list[Event]], list[int]]
) -> None:
    content, groups, starts = chunked
    cuts = {start + more for start in starts for more in (-1, 0, 1, 40, 60)}
    cuts |= set(random.Random(1).sample(range(len(content)), 60))
    for cut in sorted(each for each in cuts if container.FILE_HEAD.size <= each <= len(content)):
        whole = sum(start <= cut for start in starts) - 1
        file, events = _read(tmp_path / "cut", content[:cut])
        expected = [event for group in groups[:whole] for event in group]
        assert [event for event in events if not isinstance(event, RecordsLost)] == expected, cut
        assert (file.ends is not None) == (cut == len(content))
        assert file.faults == ({} if cut in starts else {ChunkFault.CUT_SHORT: 1}), cut
        assert file.bytes_skipped == cut - starts[whole]


def test_a_flipped_bit_costs_its_chunk_and_no_other(
    tmp_path: Path, chunked: tuple[bytes, list[list[Event]], list[int]]
) -> None:
    content, groups, starts = chunked
    chance = random.Random(2)
    headers = [start + byte for start in starts[:-1] for byte in (0, 8, 10, 12, 16, 20, 24, 40, 44)]
    for at in headers + chance.sample(range(starts[0], len(content)), 120):
        damaged = bytearray(content)
        damaged[at] ^= 1 << chance.randrange(8)
        file, events = _read(tmp_path / "flipped", bytes(damaged))
        hit = sum(start <= at for start in starts) - 1
        expected = [event for number, group in enumerate(groups) if number != hit for event in group]
        assert [event for event in events if not isinstance(event, RecordsLost)] == expected, at
        assert file.faults and file.damage and file.bytes_skipped == starts[hit + 1] - starts[hit], at
        lost = sum(event.count for event in events if isinstance(event, RecordsLost))
        # How many events a chunk had tells its header, where that is whole.
        in_header = at < starts[hit] + container.HEADER_SIZE
        assert lost == file.events_lost == (0 if in_header else len(groups[hit])), at


def test_missing_and_foreign_bytes_between_chunks_are_counted(
    tmp_path: Path, chunked: tuple[bytes, list[list[Event]], list[int]]
) -> None:
    content, groups, starts = chunked
    without = content[: starts[2]] + content[starts[3] :]
    file, events = _read(tmp_path / "without", without)
    assert events == [event for number, group in enumerate(groups) if number != 2 for event in group]
    assert file.faults == {ChunkFault.MISSING: 1}
    torn = content[: starts[2] + 100] + content[starts[3] :]  # what follows is inside of what the header claims
    file, events = _read(tmp_path / "torn", torn)
    kept = [event for number, group in enumerate(groups) if number != 2 for event in group]
    assert [event for event in events if not isinstance(event, RecordsLost)] == kept
    assert file.events_lost == 5
    file, events = _read(tmp_path / "more", content[: starts[2]] + b"?" * 3_000_000 + content[starts[2] :])
    assert events == [event for group in groups for event in group]
    assert file.faults == {ChunkFault.NOT_A_CHUNK: 1} and file.bytes_skipped == 3_000_000


_PART_COUNT_AT, _BODY_SIZE_AT = 10, 20


def _sealed(header: bytearray, body: bytes) -> bytes:
    """A chunk of which only the checksums are right."""
    struct.pack_into("<I", header, container.HEADER_SIZE - 8, crc32(body))
    struct.pack_into("<I", header, container.HEADER_SIZE - 4, crc32(header[:-4]))
    return bytes(header) + body


def test_sizes_that_are_lies_are_not_believed(
    tmp_path: Path, chunked: tuple[bytes, list[list[Event]], list[int]]
) -> None:
    content, groups, starts = chunked
    header = bytearray(content[starts[1] : starts[1] + container.HEADER_SIZE])
    body = content[starts[1] + container.HEADER_SIZE : starts[2]]
    expected = [event for number, group in enumerate(groups) if number != 1 for event in group]

    def events_with(chunk: bytes) -> list[Event]:
        file, events = _read(tmp_path / "lies", content[: starts[1]] + chunk + content[starts[2] :])
        assert file.faults
        return [event for event in events if not isinstance(event, RecordsLost)]

    too_long = bytearray(header)
    struct.pack_into("<I", too_long, _BODY_SIZE_AT, 0xFFFFFFFF)
    assert events_with(_sealed(too_long, body)) == expected
    for offset in (4, 8):  # of a part's entry: its size unpacked, and as stored
        lying = bytearray(body)
        struct.pack_into("<I", lying, offset, 0xFFFFFFFF)
        assert events_with(_sealed(header, bytes(lying))) == expected
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 27))
    entry = struct.pack("<HHII", Part.MEMORY, 0, 1 << 27, len(bomb))
    struct.pack_into("<H", header, _PART_COUNT_AT, 1)
    struct.pack_into("<I", header, _BODY_SIZE_AT, len(entry + bomb))
    assert events_with(_sealed(header, entry + bomb)) == expected
    liar = bytearray(bomb)
    struct.pack_into("<I", liar, 5, 0x7FFFFFFF)  # the frame's own content size
    entry = struct.pack("<HHII", Part.MEMORY, 0, 1 << 20, len(liar))
    assert events_with(_sealed(header, entry + bytes(liar))) == expected


@pytest.mark.parametrize("part", [part for part in ROWS if part is not Part.SOURCES])
def test_rows_that_do_not_fit_each_other_are_refused_as_a_whole(tmp_path: Path, part: Part) -> None:
    """Each part in turn is a row short, and a row long, under checksums that are right."""
    from relay_reader.capture_file.event_encoder import EventEncoder

    encoder = EventEncoder()
    vectors = replace(_sample(1), read_vector_registers=lambda: {17: bytes(16)})
    for event in (
        MappingAdded(1, 2, Mapping(3, 4, 5, "/a", b"6")),
        capture.ProcessForked(1, 2, 3, 4, 5),
        capture.KernelCodeNamed(1, 2, 3, "bpf_prog"),
        capture.ProcessExeced(1, 2, "c"),
        ThreadNamed(1, 2, 3, "d"),
        capture.ThreadExited(1, 2, 3),
        RecordsLost(1, 2, 3),
        capture.KernelSectionPlaced(1, 2, 3, 4),
        vectors,
    ):
        encoder.add(event)
    parts = encoder.parts()
    size = ROWS[part].itemsize
    whole = _written(tmp_path / "head", []).read_bytes()
    for changed in (parts[part][:-size], parts[part] + bytes(size), parts[part][:-1], parts[part] + b"\xff" * size):
        chunk = packed_chunk(ChunkKind.EVENTS, 1, {**parts, part: changed}, 9)
        file, events = _read(tmp_path / "odd", whole + chunk)
        assert events == [RecordsLost(0, -1, 9)], part
        assert file.events_lost == 9 and ChunkFault.DAMAGED in file.faults


def test_a_file_of_another_version_is_read_by_the_names_of_its_fields(tmp_path: Path) -> None:
    theirs = np.dtype([("new", "<u2"), ("tid", "<i4"), ("time_ns", "<i8")])
    facts = {
        "source": 0,
        "parts": {**described_parts(), "thread_exited": [["new", "<u2"], ["tid", "<i4"], ["time_ns", "<i8"]]},
    }

    told = packed_chunk(ChunkKind.FACTS, 0, {Part.JSON: json.dumps({**facts, "facts": {"later": 1}}).encode()})
    rows = np.array([(7, 5, 9)], dtype=theirs).tobytes()
    order = np.array([Part.THREAD_EXITED], dtype="<u2").tobytes()
    chunk = packed_chunk(ChunkKind.EVENTS, 1, {Part.ORDER: order, Part.THREAD_EXITED: rows, 999: b"?"}, 1)
    unknown = packed_chunk(77, 2, {1: b"?"})  # type: ignore[arg-type]
    head = container.FILE_HEAD.pack(container.MAGIC, container.VERSION, 0)
    file, events = _read(tmp_path / "theirs", head + told + chunk + unknown)
    assert events == [capture.ThreadExited(9, 0, 5)]
    assert file.faults == {ChunkFault.UNKNOWN_KIND: 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "nothing was recorded"),
        (container.MAGIC[:5], "nothing was recorded"),
        (b"PERFILE2" + bytes(100), "no capture file of ptap"),
        (container.FILE_HEAD.pack(container.MAGIC, 99, 0), "format 99"),
    ],
)
def test_what_is_no_capture_file_is_refused_with_a_remedy(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(CaptureFileError, match=words):
        _read(tmp_path / "none", content)


# --- while it is written


def test_a_file_is_followed_to_the_end_of_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "growing"
    writer = CaptureWriter(str(path), [SourceFacts()])
    followed = CaptureFile(str(path)).events(follow=True)
    for number in range(3):
        writer.add(_sample(number))
        writer.flush()
        assert next(followed) == (0, _sample(number))
    writer.add(_sample(3))
    writer.close()
    assert list(followed) == [(0, _sample(3))]


def test_events_are_not_kept_back_for_want_of_more(tmp_path: Path) -> None:
    path = tmp_path / "slow"
    writer = CaptureWriter(str(path), [SourceFacts()], timely=True)
    writer.add(_sample(0))
    try:
        assert next(CaptureFile(str(path)).events(follow=True)) == (0, _sample(0))
    finally:
        writer.close()


def test_only_one_writes_a_file(tmp_path: Path) -> None:
    writer = CaptureWriter(str(tmp_path / "a"), [SourceFacts()])
    with pytest.raises(CaptureWriteError, match="another ptap"):
        CaptureWriter(str(tmp_path / "a"), [SourceFacts()])
    writer.close()
    assert list(CaptureFile(str(tmp_path / "a")).events()) == []


_WRITES_ON = """
import itertools, sys
from relay_reader.capture import ThreadNamed
from relay_reader.capture_file import writer
writer.FULL_CHUNK = 1 << 14
file = writer.CaptureWriter(sys.argv[1], [writer.SourceFacts()])
for number in itertools.count():
    file.add(ThreadNamed(number, 1, number, f"thread {number}"))
"""


def test_a_killed_writer_leaves_what_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", _WRITES_ON, str(path)])
    try:
        while not (path.exists() and path.stat().st_size > 50_000):
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    file = CaptureFile(str(path))
    events = [event for _, event in file.events()]
    named = [event for event in events if isinstance(event, ThreadNamed)]
    assert len(named) > 256
    assert named == [ThreadNamed(number, 1, number, f"thread {number}") for number in range(len(named))]
    assert set(file.faults) <= {ChunkFault.CUT_SHORT} and file.ends is None


def test_a_full_disk_ends_the_writer_and_keeps_its_chunks(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writes fail in the middle of a chunk."""
    path = tmp_path / "full"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    done = subprocess.run(
        [sys.executable, "-c", _WRITES_ON, str(path)], capture_output=True, text=True, preexec_fn=limit
    )
    assert "what was recorded until then is in it" in done.stderr
    file = CaptureFile(str(path))
    named = [event for _, event in file.events()]
    assert len(named) > 256 and not file.faults
    assert named == [ThreadNamed(number, 1, number, f"thread {number}") for number in range(len(named))]
    assert os.path.getsize(path) <= 60_000


def test_an_event_that_cannot_be_stored_is_an_error_not_a_wrong_event(tmp_path: Path) -> None:
    writer = CaptureWriter(str(tmp_path / "a"), [SourceFacts()])
    too_much: Any = 1 << 70
    with pytest.raises(CaptureWriteError, match="cannot be stored"):
        writer.add(ThreadNamed(too_much, 1, 1, "a"))
    with pytest.raises(CaptureWriteError):
        writer.add(ThreadNamed(1, 1, 1, "a"))
    writer.close()
    assert list(CaptureFile(str(tmp_path / "a")).events()) == []
