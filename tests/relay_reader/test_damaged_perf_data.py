"""Damaged perf.data: what is whole is delivered, what is not is counted, and nothing else is raised.

The files are made by hand, small and always the same, so that every byte can be damaged.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from perf_report import perf_data_writer as writer
from perf_report.perf_data_writer import FINISHED_ROUND, PerfDataFile

from relay_reader.capture import Event
from relay_reader.perf_data import FileFault, PerfData, PerfDataError

WITH_CHAIN = writer.BASE | writer.CALLCHAIN
MADE = PerfDataFile(
    [writer.Event([1, 2], WITH_CHAIN, name="cycles:u"), writer.Event([7], WITH_CHAIN)],
    features={
        2: writer.build_id_entry("/bin/x", b"\x11" * 20),
        3: writer.string("host"),
        6: writer.string("x86_64"),
        11: struct.pack("<I", 2) + writer.string("perf") + writer.string("record"),
    },
).with_names()
USER_CHAIN = writer.chain(writer.CONTEXT_USER, 0x1010, 0x1020)
for number in range(2):
    MADE.records += [
        writer.comm(5 + number, 100 * number, f"name{number}", exec_too=True),
        writer.mapping(5 + number, 100 * number + 1, 0x1000, 0x1000, 0, f"/bin/x{number}"),
        *(writer.sample(5 + number, 100 * number + 2 + each, 0x1010, USER_CHAIN) for each in range(3)),
        writer.lost(100 * number + 90, 3),
        writer.ksymbol(100 * number + 91, 1 << 63, 64, f"bpf_prog_{number}"),
        FINISHED_ROUND,
    ]
DAMAGE_SEED = 20261123


class Outcome:
    """What came of one file."""

    def __init__(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self.refused: str | None = None
        self.events: list[Event] = []
        self.faults: Counter[object] = Counter()
        self.lines: list[str] = []
        self.unread = 0
        try:
            file = PerfData(path)
        except PerfDataError as error:
            self.refused = str(error)
            return
        try:
            self.events = list(file.events())
        except PerfDataError as error:
            self.refused = str(error)
        finally:
            file.close()
        self.faults = Counter(file.faults)
        self.lines = file.shortcomings()
        self.unread = file.unread


def forms() -> list[tuple[str, bytes, int]]:
    """(name, content, where the records begin) of each form."""
    content = MADE.in_file()
    (data_at,) = struct.unpack_from("<Q", content, 40)
    piped = MADE.in_pipe()
    return [("file", content, data_at), ("pipe", piped, len(piped) - sum(map(len, MADE.records)))]


FORMS = forms()


@pytest.fixture(params=FORMS, ids=[name for name, _, _ in FORMS])
def form(request: pytest.FixtureRequest) -> tuple[str, bytes, int]:
    found: tuple[str, bytes, int] = request.param
    return found


def events_of(path: Path, records: list[bytes], name: str) -> list[Event]:
    part = PerfDataFile(MADE.events, records, MADE.features)
    return Outcome(path, part.in_file() if name == "file" else part.in_pipe()).events


def test_cut_at_every_byte_of_the_records(form: tuple[str, bytes, int], tmp_path: Path) -> None:
    name, whole, begin = form
    path = tmp_path / "cut.data"
    ends = [begin]
    for each in MADE.records:
        ends.append(ends[-1] + len(each))
    # What the features tell of build-ids is behind the records of a file, and gone with them.
    bare = PerfDataFile(MADE.events, MADE.records, {} if name == "file" else MADE.features)
    for count, (end, following) in enumerate(pairwise(ends)):
        kept = PerfDataFile(bare.events, MADE.records[:count], bare.features)
        expected = Outcome(path, kept.in_file() if name == "file" else kept.in_pipe()).events
        for size in {end, end + 1, end + 7, following - 1}:
            found = Outcome(path, whole[:size])
            assert found.refused is None
            assert found.events == expected
            # A pipe that ends between two records has ended as pipes do.
            assert bool(found.faults[FileFault.DATA_CUT_SHORT]) == (name == "file" or size != end)


def test_cut_before_the_records(form: tuple[str, bytes, int], tmp_path: Path) -> None:
    name, whole, begin = form
    # A pipe that ends between two records has ended as pipes do.
    quiet = {16} if name == "pipe" else set()
    while name == "pipe" and max(quiet) < begin:
        quiet.add(max(quiet) + struct.unpack_from("<H", whole, max(quiet) + 6)[0])
    for size in range(begin):
        found = Outcome(tmp_path / "cut.data", whole[:size])
        assert found.events == []
        assert found.refused is None or "cut.data" in found.refused
        assert bool(found.refused or found.faults) == (size not in quiet)


@pytest.mark.parametrize("value", [0xFFFFFFFF, 0, 0x80000000], ids=["ones", "zeros", "sign"])
def test_words_of_impossible_values(form: tuple[str, bytes, int], tmp_path: Path, value: int) -> None:
    """Each word of the file in turn: lengths, counts, offsets and all else."""
    _, whole, _ = form
    complete = len(MADE.records)
    for at in range(0, len(whole) - 3, 4):
        found = Outcome(tmp_path / "word.data", whole[:at] + struct.pack("<I", value) + whole[at + 4 :])
        assert len(found.events) <= complete
        assert found.refused is None or "word.data" in found.refused


def test_flipped_bits(form: tuple[str, bytes, int], tmp_path: Path) -> None:
    _, whole, _ = form
    chosen = random.Random(DAMAGE_SEED)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chosen.randint(1, 6)):
            damaged[chosen.randrange(len(whole))] ^= 1 << chosen.randrange(8)
        found = Outcome(tmp_path / "flipped.data", bytes(damaged))
        assert found.refused is None or "flipped.data" in found.refused


@pytest.mark.parametrize("size", [0, 4, 7, 0xFFFC, 0xFFFF])
def test_a_size_that_cannot_be_costs_its_record_and_no_other(
    form: tuple[str, bytes, int], tmp_path: Path, size: int
) -> None:
    name, whole, begin = form
    at = begin
    for number, each in enumerate(MADE.records):
        damaged = bytearray(whole)
        struct.pack_into("<H", damaged, at + 6, size)
        found = Outcome(tmp_path / "size.data", bytes(damaged))
        assert found.events == events_of(
            tmp_path / "part.data", [*MADE.records[:number], *MADE.records[number + 1 :]], name
        )
        # Nothing follows the last one that would tell its end from one that was cut off.
        fault = FileFault.BAD_RECORD_SIZE if number < len(MADE.records) - 1 or size < 8 else FileFault.DATA_CUT_SHORT
        assert found.faults == {fault: 1}
        assert found.unread == len(each)
        assert fault.value in "".join(found.lines)
        at += len(each)


def test_foreign_bytes_between_records_cost_nothing_else(form: tuple[str, bytes, int], tmp_path: Path) -> None:
    """Among them records that are whole, but do not go on to the next ones: such as may lie in a copied stack."""
    name, _, _ = form
    records = b"".join(MADE.records)
    chance = random.Random(DAMAGE_SEED)
    torn = bytes(8) + 40 * (records + bytes(4) + b"\x09\0\0\0")
    foreign = [bytes(4096), b"\xff" * 8 + chance.randbytes(3 << 20), bytes(8) + records + bytes(16), torn]
    expected = Outcome(tmp_path / "whole.data", MADE.in_file() if name == "file" else MADE.in_pipe()).events
    for each in foreign:
        for place in (0, 1, 9, len(MADE.records) - 1):
            made = PerfDataFile(MADE.events, [*MADE.records[:place], each, *MADE.records[place:]], MADE.features)
            found = Outcome(tmp_path / "more.data", made.in_file() if name == "file" else made.in_pipe())
            assert found.events == expected
            assert found.faults == {FileFault.BAD_RECORD_SIZE: 1} and found.unread == len(each)


def test_records_that_name_no_event_are_found_in_a_longer_chain(tmp_path: Path) -> None:
    unnamed = struct.pack("<QIIQ", 0x1010, 5, 5, 7)
    made = PerfDataFile([writer.Event([], writer.IP | writer.TID | writer.TIME)])
    made.records = [writer.record(9, unnamed) for _ in range(12)]
    expected = Outcome(tmp_path / "whole.data", made.in_file()).events
    assert len(expected) == 12
    for behind, kept in ((8, 12), (7, 5)):
        made.records.insert(12 - behind, bytes(24))
        found = Outcome(tmp_path / "more.data", made.in_file())
        assert found.events == expected[:kept] and found.faults == {FileFault.BAD_RECORD_SIZE: 1}
        assert found.unread == 24 + 32 * (12 - kept)
        del made.records[12 - behind]


def test_random_bytes_behind_a_sound_beginning(form: tuple[str, bytes, int], tmp_path: Path) -> None:
    _, whole, begin = form
    chosen = random.Random(DAMAGE_SEED)
    for _ in range(200):
        content = whole[:begin] + chosen.randbytes(chosen.randrange(4000))
        found = Outcome(tmp_path / "random.data", content)
        assert found.refused is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "too small"),
        (b"PERFILE2", "too small"),
        (b"\x7fELF" + bytes(200), "not a perf.data"),
        (b"2ELIFREP" + bytes(200), "big-endian"),
        (b"PERFFILE" + bytes(200), "older"),
        (b"PERFILE2" + bytes(200), "damaged"),
        (b"PERFILE2" + struct.pack("<Q", 104) + b"\xff" * 88, "damaged"),
    ],
)
def test_what_is_no_readable_perf_data_is_refused_by_name(tmp_path: Path, content: bytes, told: str) -> None:
    found = Outcome(tmp_path / "other", content)
    assert found.refused is not None
    assert told in found.refused
    assert str(tmp_path / "other") in found.refused
