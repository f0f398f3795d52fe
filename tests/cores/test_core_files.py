"""Core files as files: packed, moved to other places, of another build, cut short and damaged."""

from __future__ import annotations

import gzip
import json
import lzma
import random
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from cores.conftest import HERE, CoreOf, crashed, ptap_report, traces_of
from lz4 import frame as lz4_frame

from relay_reader.capture import MappingAdded, Sample
from relay_reader.core_file import CoreFault, CoreFile, CoreFileError

PACKERS = {
    "gz": gzip.compress,
    "zst": zstandard.ZstdCompressor().compress,
    "xz": lzma.compress,
    "lz4": lz4_frame.compress,
}


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> CoreOf:
    """The small program's core file, for tests that only read it."""
    folder = tmp_path_factory.mktemp("dumped")
    program = folder / "scopes"
    source = HERE / "programs" / "scopes.c"
    subprocess.run(["gcc", "-O0", "-g", "-Wl,--build-id=sha1", source, "-o", program], check=True)
    (folder / "dump").mkdir()
    return CoreOf(Path(shutil.move(crashed(program, folder / "dump"), folder / "core")), program)


def without_places(traces: list[dict]) -> list[dict]:
    return [{**trace, "frames": [{**frame, "module": None} for frame in trace["frames"]]} for trace in traces]


@pytest.mark.parametrize("packer", PACKERS)
def test_packed_files_give_the_same(dumped, tmp_path, packer):
    packed = tmp_path / "packed"  # no name tells what it is
    packed.write_bytes(PACKERS[packer](dumped.core.read_bytes()))
    assert traces_of(packed, "--locals") == traces_of(dumped.core, "--locals")


@pytest.mark.parametrize("packer", PACKERS)
def test_a_packed_file_that_is_cut_short_gives_what_came_out(dumped, tmp_path, packer):
    packed = tmp_path / "packed"
    data = PACKERS[packer](dumped.core.read_bytes())
    packed.write_bytes(data[:-40])
    try:
        core = CoreFile(packed)
    except CoreFileError as error:
        assert CoreFault.PACKING_DAMAGED.value in str(error)  # the packer holds so much back
    else:
        assert CoreFault.PACKING_DAMAGED in core.faults
        core.close()


def test_files_that_were_moved_are_named_by_hand(dumped, tmp_path):
    whole = traces_of(dumped.core, "--locals")
    place = tmp_path / "elsewhere"
    shutil.copy(dumped.program, place)
    core = CoreFile(dumped.core)
    root = tmp_path / "root"
    for path in {each.path for each in core.mapped_files}:
        copy = root / path.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    core.close()
    hidden = dumped.program.with_suffix(".hidden")
    dumped.program.rename(hidden)
    try:
        missing = ptap_report(dumped.core)
        found = traces_of(dumped.core, "-e", place, "--locals")
        in_root = traces_of(dumped.core, "--sysroot", root, "--locals")
    finally:
        hidden.rename(dumped.program)
    assert without_places(found) == without_places(whole)
    assert [frame["address"] for frame in in_root[0]["frames"]] == [frame["address"] for frame in whole[0]["frames"]]
    assert [frame["locals"] for frame in in_root[0]["frames"] if frame["function"] == "leaf"] == [
        frame["locals"] for frame in whole[0]["frames"] if frame["function"] == "leaf"
    ]
    assert missing.returncode == 0
    assert "-e PROGRAM" in missing.stderr and str(dumped.program) in missing.stderr
    assert "leaf" not in missing.stdout


def test_a_program_of_another_build_is_refused(dumped, tmp_path):
    other = tmp_path / "scopes"
    source = HERE / "programs" / "scopes.c"
    subprocess.run(["gcc", "-O1", "-g", "-Wl,--build-id=sha1", source, "-o", other], check=True)

    def build_id(path: Path) -> str:
        notes = subprocess.run(["readelf", "-nW", path], check=True, capture_output=True, text=True).stdout
        return notes.partition("Build ID: ")[2].split()[0]

    done = ptap_report(dumped.core, "-e", other)
    assert build_id(other) in done.stderr and build_id(dumped.program) in done.stderr
    assert "leaf" not in done.stdout


def test_a_file_that_is_no_core_file_is_refused_with_what_to_do(dumped, tmp_path):
    text = tmp_path / "text"
    text.write_text("no core file")
    for path, words in ((text, "not a core file"), (dumped.program, "-e PROGRAM"), (tmp_path / "none", "No such file")):
        done = ptap_report(path)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def test_the_vdso_and_all_mapped_code_are_told(dumped):
    core = CoreFile(dumped.core)
    mappings = [event.mapping for event in core.events() if isinstance(event, MappingAdded)]
    by_path = {Path(mapping.path).name: mapping for mapping in mappings}
    assert by_path["scopes"].build_id and by_path["libc.so.6"].build_id and by_path["[vdso]"].build_id
    assert core.read(by_path["[vdso]"].start, 4) == b"\x7fELF"
    core.close()


def segments(data: bytes) -> list[tuple[int, ...]]:
    (table,) = struct.unpack_from("<Q", data, 32)
    (count,) = struct.unpack_from("<H", data, 56)
    return [struct.unpack_from("<IIQQQQQQ", data, table + 56 * index) for index in range(count)]


def test_truncated_files_give_what_is_whole(dumped, tmp_path):
    """Every value that a file cut short gives is one of the whole file's; what is lost is told."""
    data = dumped.core.read_bytes()
    whole = traces_of(dumped.core, "--locals")
    expected = {
        (index, each["name"], each["line"]): each["value"]
        for index, frame in enumerate(whole[0]["frames"])
        for each in frame["locals"]
    }
    starts = sorted({row[2] for row in segments(data) if row[0] == 1 and row[5]})
    cut = tmp_path / "core"
    for size in (starts[0] + 100, starts[len(starts) // 2], starts[-3] + 1, starts[-2], starts[-1]):
        cut.write_bytes(data[:size])
        done = ptap_report(cut, "--locals", "--format", "json", "-e", dumped.program)
        assert done.returncode in (0, 2) and "Traceback" not in done.stderr, done.stderr
        if done.returncode == 2:
            assert "no thread's registers" in done.stderr  # gdb writes the notes last
            continue
        assert CoreFault.MEMORY_CUT_SHORT.value in done.stderr
        (trace,) = (json.loads(line) for line in done.stdout.splitlines())
        assert trace["stop"] in ("end_of_stack", "memory_not_captured")
        for index, frame in enumerate(trace["frames"]):
            for each in frame["locals"]:
                if each["value"] is not None and "<" not in each["value"]:
                    assert each["value"] == expected[index, each["name"], each["line"]]


def test_flipped_bits_neither_crash_nor_hang(dumped, tmp_path):
    """In headers and notes, where each bit means something; the report has an answer or a reason."""
    data = dumped.core.read_bytes()
    notes = [(row[2], row[5]) for row in segments(data) if row[0] == 4]
    chance = random.Random(7)
    damaged = tmp_path / "core"
    outcomes = set()
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(chance.choice((1, 1, 3, 12))):
            begin, size = chance.choice(((0, 64), (64, 56 * len(segments(data))), *notes))
            changed[begin + chance.randrange(size)] ^= 1 << chance.randrange(8)
        damaged.write_bytes(changed)
        try:
            core = CoreFile(damaged)
        except CoreFileError as error:
            assert str(damaged) in str(error)
            outcomes.add("refused")
            continue
        for event in core.events():
            if isinstance(event, Sample):
                assert len(event.registers) == 17
                for register in event.registers:
                    assert len(core.read(register, 64)) <= 64
                    core.left_to_file(register)
        outcomes.add("faults" if core.faults else "read")
        core.close()
    assert outcomes == {"refused", "faults", "read"}


def test_a_file_whose_build_id_is_not_known_is_told(dumped, tmp_path):
    core = CoreFile(dumped.core)
    program = next(each for each in core.mapped_files if each.path == str(dumped.program) and each.file_offset == 0)
    core.close()
    data = bytearray(dumped.core.read_bytes())
    (first,) = (row for row in segments(data) if row[0] == 1 and row[3] == program.start)
    assert first[5] >= 4096  # the kernel and gdb both keep the page that has the build-id
    data[first[2] : first[2] + 4096] = bytes(4096)
    changed = tmp_path / "core"
    changed.write_bytes(data)
    done = ptap_report(changed)
    assert f"{dumped.program}: the core file does not hold its build-id" in done.stderr
    assert "leaf" in done.stdout


def test_sizes_beyond_reason_cost_no_memory(dumped, tmp_path):
    """Counts and sizes of 2^32 and 2^64 - 1 in every header field: bounded memory, in a process that has no more."""
    data = dumped.core.read_bytes()
    program = tmp_path / "read.py"
    program.write_text(
        "import sys\nfrom relay_reader.core_file import CoreFile, CoreFileError\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        core = CoreFile(path)\n        list(core.events())\n"
        "        core.read(core.threads[0][0].registers[7], 1 << 16)\n"
        "    except CoreFileError:\n        pass\n"
    )
    paths = []
    for number, value in enumerate((0xFFFF_FFFF, (1 << 64) - 1, 1 << 40)):
        for field in range(2, 7):
            changed = bytearray(data)
            for index, row in enumerate(segments(data)):
                if row[0] == 4 or index % 3 == 0:
                    struct.pack_into("<Q", changed, 64 + 56 * index + 8 * (field - 1), value)
            paths.append(tmp_path / f"core.{number}.{field}")
            paths[-1].write_bytes(changed)
    limit = 1 << 30
    done = subprocess.run(
        [sys.executable, program, *paths], cwd=HERE.parent.parent, capture_output=True, text=True, timeout=60,
        env={"PYTHONPATH": str(HERE.parent.parent)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_damaged_files_are_reported_to_the_end(dumped, tmp_path):
    """Whole reports of a few damaged files, stacks and values included: no traceback, whatever the registers."""
    data = dumped.core.read_bytes()
    chance = random.Random(11)
    loads = [(row[2], row[5]) for row in segments(data) if row[0] in (1, 4) and row[5]]
    for number in range(6):
        changed = bytearray(data)
        for _ in range(200 * (number + 1)):
            begin, size = chance.choice(loads)
            changed[begin + chance.randrange(size)] ^= 1 << chance.randrange(8)
        damaged = tmp_path / "core"
        damaged.write_bytes(changed)
        done = ptap_report(damaged, "--locals", "-e", dumped.program)
        assert done.returncode in (0, 2) and "Traceback" not in done.stderr, (number, done.stderr)
