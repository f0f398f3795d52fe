"""What perf.data says in records that perf does not write here on demand: made by hand, read in file and in pipe."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from perf_report import perf_data_writer as writer
from perf_report.perf_data_writer import FINISHED_ROUND, PerfDataFile

from relay_reader import perf_round
from relay_reader.capture import (
    KERNEL_PID,
    ChainSource,
    Event,
    KernelCodeNamed,
    MappingAdded,
    ProcessForked,
    RecordsLost,
    Sample,
    ThreadNamed,
    ToldChain,
)
from relay_reader.capture_kind import CaptureKind, kind_of, kind_of_file
from relay_reader.perf_data import FileFault, PerfData, PerfDataError
from relay_reader.perf_record import RecordFault
from relay_reader.perf_round import RoundOrder

Read = Callable[[PerfDataFile], "Reading"]


class Reading:
    """A file that was read to its end."""

    def __init__(self, path: Path) -> None:
        self.file = PerfData(path)
        self.events: list[Event] = list(self.file.events())
        self.file.close()

    def samples(self) -> list[Sample]:
        return [event for event in self.events if isinstance(event, Sample)]


@pytest.fixture(params=["file", "pipe"])
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Read:
    def run(made: PerfDataFile) -> Reading:
        path = tmp_path / "made.data"
        path.write_bytes(made.in_file() if request.param == "file" else made.in_pipe())
        return Reading(path)

    return run


def test_events_are_named_and_samples_say_which_they_are_of(read: Read) -> None:
    made = PerfDataFile([writer.Event([1, 2], name="cycles:u"), writer.Event([7], config=2, name="page-faults")])
    made.records = [writer.sample(5, 10, 0x1000, event=2), writer.sample(5, 11, 0x1000, event=7)]
    unnamed = read(made)
    assert [event.name for event in unnamed.file.perf_events] == ["cpu-clock", "page-faults"]
    found = read(made.with_names())
    names = [found.file.perf_events[each.places[0]].name for each in found.samples()]
    assert names == ["cycles:u", "page-faults"]
    assert not found.file.faults


def test_a_sample_stands_for_its_period(read: Read) -> None:
    made = PerfDataFile([writer.Event([1], writer.BASE | writer.PERIOD)])
    made.records = [
        writer.sample(5, 10, 0x1000, struct.pack("<Q", 4000)),
        writer.sample(5, 11, 0, struct.pack("<Q", 0)),
    ]
    assert [each.weight for each in read(made).samples()] == [4000, 1]


def test_features_tell_of_the_machine_and_the_files(read: Read) -> None:
    made = PerfDataFile(records=[writer.mapping(5, 1, 0x1000, 0x1000, 0, "/bin/x"), writer.sample(5, 2, 0x1010)])
    made.features = {
        2: writer.build_id_entry("/bin/x", b"\x11" * 20) + writer.build_id_entry("[vdso]", b"\x22" * 16),
        3: writer.string("host"),
        4: writer.string("6.1.0-9-amd64"),
        6: writer.string("x86_64"),
        11: struct.pack("<I", 2) + writer.string("perf") + writer.string("record"),
        21: struct.pack("<QQ", 3, 4),
    }
    found = read(made)
    features = found.file.features
    assert (features.hostname, features.os_release) == ("host", "6.1.0-9-amd64")
    assert (features.command_line, features.sample_times) == (("perf", "record"), (3, 4))
    assert features.build_ids == {"/bin/x": {b"\x11" * 20}, "[vdso]": {b"\x22" * 16}}
    (mapped,) = (event for event in found.events if isinstance(event, MappingAdded))
    assert mapped.mapping.build_id == b"\x11" * 20


def test_two_build_ids_of_one_path_are_none(read: Read) -> None:
    made = PerfDataFile(records=[writer.mapping(5, 1, 0x1000, 0x1000, 0, "/bin/x")])
    made.features = {2: writer.build_id_entry("/bin/x", b"\x11" * 20) + writer.build_id_entry("/bin/x", b"\x22" * 20)}
    (mapped,) = read(made).events
    assert isinstance(mapped, MappingAdded)
    assert mapped.mapping.build_id is None


def test_the_kernel_and_its_modules_are_mapped(read: Read) -> None:
    text = 0xFFFFFFFF9E000000
    made = PerfDataFile()
    made.records = [
        writer.mapping(-1, 0, text, 1 << 24, text, "[kernel.kallsyms]_text", writer.KERNEL),
        writer.mapping(-1, 0, 0xFFFFFFFFC0100000, 1 << 12, 0, "[ext4]", writer.KERNEL),
        writer.mapping(-1, 0, text, 1 << 24, text, "[guest.kernel.kallsyms]_text", writer.GUEST_KERNEL),
        writer.ksymbol(3, 0xFFFFFFFFC0200000, 64, "bpf_prog_1"),
        writer.ksymbol(9, 0xFFFFFFFFC0200000, 64, "bpf_prog_1", gone=True),
    ]
    made.features = {2: writer.build_id_entry("[kernel.kallsyms]", b"\x33" * 20)}
    own, module, named, gone = read(made).events
    assert isinstance(own, MappingAdded)
    assert isinstance(module, MappingAdded)
    assert (own.pid, own.mapping.file_offset, own.mapping.build_id) == (KERNEL_PID, text, b"\x33" * 20)
    assert (module.pid, module.mapping.start, module.mapping.build_id) == (KERNEL_PID, 0xFFFFFFFFC0100000, None)
    assert named == KernelCodeNamed(3, 0xFFFFFFFFC0200000, 64, "bpf_prog_1")
    assert gone == KernelCodeNamed(9, 0xFFFFFFFFC0200000, 64, "bpf_prog_1", gone=True)


def test_a_process_that_ran_before_does_not_inherit(read: Read) -> None:
    made = PerfDataFile(records=[writer.fork(6, 5, 0, exec_too=True), writer.fork(7, 6, 5)])
    assert read(made).events == [ProcessForked(0, 6, 5, 6, 5, inherits=False), ProcessForked(5, 7, 6, 7, 6)]


def test_chains_of_frame_pointers_are_told(read: Read) -> None:
    made = PerfDataFile([writer.Event([1], writer.BASE | writer.CALLCHAIN, max_stack=4)])
    kernel, user = writer.CONTEXT_KERNEL, writer.CONTEXT_USER
    made.records = [
        writer.sample(5, 1, 0x10, writer.chain(kernel, 1 << 63, user, 0x10, 0x20)),
        writer.sample(5, 2, 0x10, writer.chain(user, 0x10, 0x20, 0x30, 0x40)),
        writer.sample(5, 3, 0x10, writer.chain()),
    ]
    first, full, bare = read(made).samples()
    assert first.kernel_chain == (1 << 63,)
    assert first.told_chain == ToldChain(ChainSource.FRAME_POINTERS, (0x10, 0x20))
    assert full.told_chain == ToldChain(ChainSource.FRAME_POINTERS, (0x10, 0x20, 0x30, 0x40), cut=True)
    assert bare.told_chain is None


def branches(*pairs: tuple[int, int]) -> bytes:
    words = [word for source, target in pairs for word in (source, target, 0)]
    return struct.pack(f"<QQ{len(words)}Q", len(pairs), 0, *words)


LBR = writer.Event(
    [1], writer.BASE | writer.CALLCHAIN | writer.BRANCH_STACK, branch_sample_type=1 << 11 | 1 << 17 | 1, name="cycles"
)


def test_branch_records_are_calls(read: Read) -> None:
    made = PerfDataFile([LBR])
    stack = branches((0x200, 0x300), (0x100, 0x1F0))
    made.records = [
        writer.sample(5, 1, 0x310, writer.chain(writer.CONTEXT_USER, 0x310) + stack),
        writer.sample(
            *(5, 2, 1 << 63, writer.chain(writer.CONTEXT_KERNEL, 1 << 63, writer.CONTEXT_USER) + stack, writer.KERNEL)
        ),
    ]
    first, second = read(made).samples()
    assert first.told_chain == ToldChain(ChainSource.LAST_BRANCHES, (0x310, 0x200, 0x100), cut=True)
    assert second.told_chain == ToldChain(ChainSource.LAST_BRANCHES, (0x300, 0x200, 0x100), cut=True)
    assert second.kernel_chain == (1 << 63,)


def test_branch_records_are_those_of_perf_script(tmp_path: Path, require_tool: Callable[[str, str], str]) -> None:
    made = PerfDataFile([LBR]).with_names()
    made.records = [
        writer.comm(5, 0, "x"),
        writer.sample(
            5, 1, 1 << 63,
            writer.chain(writer.CONTEXT_KERNEL, 0xFFFFFFFF81000010, writer.CONTEXT_USER)
            + branches((0x200, 0x300), (0x100, 0x1F0)),
            writer.KERNEL,
        ),
    ]  # fmt: skip
    path = tmp_path / "lbr.data"
    path.write_bytes(made.in_file())
    command = [require_tool("perf", "linux-perf"), "script", "-i", path, "-F", "ip"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    (found,) = Reading(path).samples()
    assert found.told_chain is not None
    assert [int(each, 16) for each in shown] == [*found.kernel_chain, *found.told_chain.addresses]


def test_a_guests_samples_are_no_ones_here(read: Read) -> None:
    made = PerfDataFile()
    made.records = [
        writer.sample(5, 1, 0xFFFFFFFF81000000, misc=writer.GUEST_KERNEL),
        writer.sample(5, 2, 0x1000, misc=writer.GUEST_USER),
        writer.sample(5, 3, 0x1000),
    ]
    found = read(made)
    assert [each.guest for each in found.samples()] == [True, True, False]
    assert found.file.faults == {RecordFault.GUEST: 2}
    assert found.samples()[0].kernel_chain == (0xFFFFFFFF81000000,)
    assert found.samples()[0].known == found.samples()[1].known == 0


def test_losses_are_counted_once(read: Read) -> None:
    made = PerfDataFile()
    # perf's own count at the end, without a time, holds what the kernel has told; a filter's is no loss.
    made.records = [
        *(writer.lost(5, 3), writer.lost_samples(6, 10), FINISHED_ROUND),
        *(writer.lost_samples(0, 4), writer.lost_samples(0, 100, misc=1 << 15)),
    ]
    assert [event.count for event in read(made).events if isinstance(event, RecordsLost)] == [3, 10, 1]


def test_records_of_no_use_are_counted_and_unknown_ones_named(read: Read) -> None:
    made = PerfDataFile()
    made.records = [writer.record(each, bytes(48)) for each in (16, 18, 20, 20, 69, 95, 95, 200)]
    made.records.append(writer.sample(5, 9, 0x10))
    found = read(made)
    assert len(found.samples()) == 1
    assert found.file.passed_over == {"NAMESPACES": 1, "BPF_EVENT": 1, "TEXT_POKE": 2, "ID_INDEX": 1}
    assert found.file.unknown_kinds == {95: 2, 200: 1}
    (line,) = found.file.shortcomings()
    assert "2 of type 95, 1 of type 200" in line


def test_records_are_put_in_order_by_rounds(read: Read) -> None:
    made = PerfDataFile()
    times = [[30, 10, 20], [25, 40], [35, 50, 45], [60]]
    for part in times:
        made.records += [writer.comm(5, time, f"at{time}") for time in part] + [FINISHED_ROUND]
    found = read(made)
    told = [event.time_ns for event in found.events]
    assert told == sorted(told)
    assert len(told) == 9
    assert not found.file.faults
    # Two rounds too late.
    made.records += [FINISHED_ROUND, writer.comm(5, 15, "late")]
    found = read(made)
    assert ThreadNamed(15, 5, 5, "late") in found.events
    assert found.file.faults == {FileFault.LATE_RECORD: 1}


def test_order_waits_in_bounded_memory() -> None:
    limit = 1 << 16
    order = RoundOrder(limit)
    waiting = given = 0
    for time in range(1, 5000):
        record = bytes(100)
        waiting += 1
        out = len(list(order.add(time, record)))
        waiting, given = waiting - out, given + out
        assert waiting * (len(record) + perf_round._ENTRY) <= limit
    assert given > 4000
    assert given + len(list(order.rest())) == 4999
    assert order.late == 0


def packed(data: bytes, kind: int, cut: int = 777) -> Iterator[bytes]:
    """`data` as compressed records, one stream that is flushed in each as perf does."""
    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    for at in range(0, len(data), cut):
        content = compressor.compress(data[at : at + cut])
        content += compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        head = struct.pack("<Q", len(content)) if kind == 83 else b""
        body = head + content + (bytes(-len(content) % 8) if kind == 83 else b"")
        yield struct.pack("<IHH", kind, 0, 8 + len(body)) + body


@pytest.mark.parametrize("kind", [81, 83])
def test_packed_records(read: Read, kind: int) -> None:
    made = PerfDataFile(records=[writer.comm(5, time, f"name{time}") for time in range(1, 300)])
    plain = read(made).events
    made.records = list(packed(b"".join(made.records), kind))
    made.records.insert(2, FINISHED_ROUND)
    found = read(made)
    assert found.events == plain
    assert not found.file.faults


def test_damage_in_packed_records_costs_what_is_behind_it(read: Read) -> None:
    names = [writer.comm(5, time, f"name{time}") for time in range(1, 300)]
    parts = list(packed(b"".join(names), 81))
    for broken in (
        parts[3][:20] + b"\xff" * 40 + parts[3][60:],
        struct.pack("<IHH", 81, 0, 8),
        struct.pack("<IHH", 83, 0, 8),
    ):
        made = PerfDataFile(records=[*parts[:3], broken, *parts[4:], writer.comm(5, 999, "plain")])
        found = read(made)
        whole = 3 * 777 // len(names[0])
        assert [event.time_ns for event in found.events[:whole]] == list(range(1, whole + 1))
        assert found.events[-1] == ThreadNamed(999, 5, 5, "plain")
        assert found.file.faults.keys() & {FileFault.BAD_COMPRESSION, FileFault.COMPRESSED_END}


def test_other_machines_are_refused(tmp_path: Path) -> None:
    made = PerfDataFile(records=[writer.sample(5, 1, 0x10)], features={6: writer.string("aarch64")})
    path = tmp_path / "arm.data"
    for content in (made.in_file(), made.in_pipe()):
        path.write_bytes(content)
        with pytest.raises(PerfDataError, match=r"recorded on aarch64.*perf script"):
            Reading(path)


def test_a_pipe_without_attributes_says_so(tmp_path: Path) -> None:
    path = tmp_path / "no.data"
    path.write_bytes(PerfDataFile([], [writer.sample(5, 1, 0x10)]).in_pipe())
    with pytest.raises(PerfDataError, match="attributes"):
        Reading(path)


def test_ids_at_different_places_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ids.data"
    path.write_bytes(PerfDataFile([writer.Event([1]), writer.Event([2], writer.IP | 64)]).in_file())
    with pytest.raises(PerfDataError, match="--sample-identifier"):
        Reading(path)


@pytest.mark.parametrize(
    ("begin", "kind"),
    [
        (b"PERFILE2" + bytes(8), CaptureKind.PERF_DATA),
        (b"2ELIFREP" + bytes(8), CaptureKind.PERF_DATA),
        (b"PERFFILE" + bytes(8), CaptureKind.PERF_DATA),
        (b"\x7fELF" + bytes(30), CaptureKind.CORE),
        (b"\x28\xb5\x2f\xfd" + bytes(30), CaptureKind.CORE),
        (b"ptap kernel capture 1\n{", CaptureKind.MODULE),
        (b"", CaptureKind.UNKNOWN),
        (b"PERFIL", CaptureKind.UNKNOWN),
    ],
)
def test_kinds_of_captures(begin: bytes, kind: CaptureKind, tmp_path: Path) -> None:
    assert kind_of(begin) is kind
    path = tmp_path / "file"
    path.write_bytes(begin)
    assert kind_of_file(path) is kind


def test_hardware_traces_are_said_not_to_be_decoded(read: Read) -> None:
    trace = struct.pack("<QQQIII4x", 64, 0, 0, 0, 5, 0)
    made = PerfDataFile(records=[writer.record(71, trace, 0) + b"\x9f" * 64, writer.sample(5, 9, 0x10)])
    found = read(made)
    assert len(found.samples()) == 1 and not found.file.faults
    (line,) = found.file.shortcomings()
    assert "1 pieces of a trace that the hardware wrote" in line and "perf script" in line
