"""perf.data that became a capture file shows what perf.data shows."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from perf_report import perf_data_writer as perf

from cfi_tables.elf_image import ElfImage
from ptap.capture_conversion import ConversionError, convert
from ptap.capture_file_report import CaptureFileReport
from ptap.capture_report import FileReport, ReportOptions
from ptap.perf_report import PerfReport
from ptap.report.json_lines import JsonReport
from relay_reader.capture import MappingAdded
from relay_reader.capture_file.reader import CaptureFile
from relay_reader.perf_data import read_perf_data


def shown(report: FileReport) -> list[dict[str, Any]]:
    stream = io.StringIO()
    report.write(JsonReport(stream))
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def perf_data(tmp_path: Path) -> Path:
    """Chains in a library of this machine, as it would lie in a process, with a fork, a loss and run-time code."""
    library = ElfImage.open("/usr/lib/x86_64-linux-gnu/libc.so.6")
    text = next(segment for segment in library.segments if segment.type == 1 and segment.flags & 1)
    start = 0x7F0000000000 + text.offset
    addresses = [start + 0x1000 * number for number in range(1, 6)]
    body = perf.chain(perf.CONTEXT_USER, *addresses)
    event = perf.Event([1], perf.BASE | perf.CALLCHAIN, "cpu-clock")
    records = [
        perf.comm(100, 1, "parent", exec_too=True),
        perf.mapping(100, 2, start, text.file_size, text.offset, library.path),
        perf.ksymbol(3, 0xFFFFFFFFC0000000, 64, "bpf_prog_a"),
        perf.sample(100, 4, addresses[0], body),
        perf.fork(101, 100, 5),
        perf.sample(101, 6, addresses[0], body),
        perf.lost(7, 3),
        perf.comm(101, 8, "child"),
        *(perf.sample(101, 10 + number, addresses[0], body) for number in range(20)),
    ]
    file = perf.PerfDataFile([event], records, {3: perf.string("box"), 4: perf.string("6.1"), 6: perf.string("x86_64")})
    path = tmp_path / "perf.data"
    path.write_bytes(file.with_names().in_file())
    return path


def test_a_converted_perf_data_shows_the_same(perf_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.ptap"
    assert convert(str(perf_data), str(output)) == []
    file = CaptureFile(str(output))
    assert [event for _, event in file.events()] == list(read_perf_data(perf_data))
    machine = file.sources[0].machine
    assert (machine.host, machine.release, machine.clock) == ("box", "6.1", "perf")
    before = shown(PerfReport(str(perf_data), ReportOptions()))
    after = shown(CaptureFileReport(str(output), ReportOptions()))
    assert len(after) == 22 and after == before
    assert after[0]["probe"] == "cpu-clock" and after[1]["comm"] == "parent" and after[2]["comm"] == "child"
    assert after[0]["frames"][0]["function"] is not None


def test_the_vdso_of_this_kernel_is_put_into_the_file(tmp_path: Path) -> None:
    from unwind.vdso import own_vdso

    own = own_vdso()
    assert own is not None and own.build_id is not None
    # mmap2 with a build-id in place of device and inode; PROT_READ | PROT_EXEC.
    body = struct.pack("<IIQQQ", 100, 100, 0x7FFE00000000, 0x2000, 0) + struct.pack("<B3x20s", 20, own.build_id)
    body += struct.pack("<II", 5, 2) + perf.text("[vdso]") + perf.trailer(100, 2)
    records = [perf.record(10, body, perf.USER | 1 << 14), perf.sample(100, 4, 0x1000)]
    (tmp_path / "perf.data").write_bytes(perf.PerfDataFile(records=records).in_file())
    convert(str(tmp_path / "perf.data"), str(tmp_path / "a.ptap"))
    file = CaptureFile(str(tmp_path / "a.ptap"))
    (mapped, _) = (event for _, event in file.events())
    assert isinstance(mapped, MappingAdded) and mapped.mapping.build_id == own.build_id
    assert file.blobs == {(0, f"image {own.build_id.hex()}"): bytes(own.data)}


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    with pytest.raises(ConversionError, match="captures of the kernel module can be"):
        convert(str(tmp_path / "text"), str(tmp_path / "a.ptap"))
    assert not (tmp_path / "a.ptap").exists()
