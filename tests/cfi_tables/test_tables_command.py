"""`ptap tables build`, `stats`, `verify` and `diff`, as a user runs them."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cfi_tables import layout
from cfi_tables.elf_image import ElfImage
from cfi_tables.relocation import link_view
from cfi_tables.show import format_rows
from cfi_tables.statistics import table_statistics
from cfi_tables.table import CompactTable, TableError, build_table
from cfi_tables.table_difference import table_differences
from cfi_tables.verify import verify_table


@pytest.fixture
def ptap(tmp_path):
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from ptap.cli.main import main; main()", "tables", *map(str, arguments)]
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    return run


def _with_one_byte_changed(table: CompactTable, place: int, value: int) -> CompactTable:
    """A sound table that says something else: the checksum is made to match."""
    import zlib

    data = bytearray(table.data.tobytes())
    data[place] = value
    data[layout.HEADER_CHECKSUM : layout.HEADER_CHECKSUM + 4] = bytes(4)
    data[layout.HEADER_CHECKSUM : layout.HEADER_CHECKSUM + 4] = zlib.crc32(data).to_bytes(4, "little")
    return CompactTable(np.frombuffer(bytes(data), dtype=np.uint8), "changed")


def _changed(image: ElfImage) -> tuple[CompactTable, CompactTable, int]:
    """A table, the same with another CFA offset in one rule, and the rule's offset."""
    table = build_table(image)
    offset = next(o for _, o in table.rows() if table.data[o] == layout.CFA_KIND_REGISTER_OFFSET)
    place = offset + layout.RULE_CFA_VALUE
    return table, _with_one_byte_changed(table, place, int(table.data[place]) + 8), offset


def test_build(ptap, build_program, tmp_path):
    good, other = build_program("gcc", "-O2"), build_program("gcc", "-O0")
    folder = tmp_path / "new" / "tables"
    done = ptap("build", good, other, "-o", folder)
    assert done.returncode == 0, done.stderr
    for path in (good, other):
        loaded = CompactTable.load(folder / f"{path.name}.table")
        assert loaded.data.tobytes() == build_table(ElfImage.open(path)).data.tobytes()
        assert f"{loaded.row_count} rows" in done.stdout


def test_build_goes_on_after_a_bad_file(ptap, build_program, tmp_path):
    good, text = build_program("gcc", "-O2"), tmp_path / "text"
    text.write_text("no program")
    done = ptap("build", text, tmp_path / "missing", good, good, "-o", tmp_path)
    assert done.returncode == 2
    assert [path.name for path in tmp_path.glob("*.table")] == [f"{good.name}.table"]
    assert "text: no ELF file" in done.stderr and "missing" in done.stderr and "is that of" in done.stderr


def test_stats(ptap, build_program):
    path = build_program("gcc", "-O2")
    image = ElfImage.open(path)
    table = build_table(image)
    found = table_statistics(table, image)
    assert sum(found.parts.values()) == found.size == len(table.data)
    assert sum(found.rows_by_kind.values()) == table.row_count
    sizes = {}
    listing = subprocess.run(["readelf", "-SW", str(path)], capture_output=True, text=True, check=True).stdout
    for name, size in re.findall(r"\] (\.eh_frame\S*) +\S+ +\w+ \w+ (\w+)", listing):
        sizes[name] = int(size, 16)
    assert found.replaced == sizes and len(sizes) == 2
    done = ptap("stats", path)
    assert done.returncode == 0
    assert f"{len(table.data)} bytes  the whole table" in done.stdout
    assert f"{len(table.data) / sum(sizes.values()):.3f} of the sections' size" in done.stdout


def test_verify_agrees(ptap, build_program):
    done = ptap("verify", build_program("clang", "-O2", "-fomit-frame-pointer"))
    assert done.returncode == 0, done.stdout
    compared = re.search(r"(\d+) addresses of (\d+) FDEs compared, 0 differ", done.stdout)
    assert compared is not None and int(compared[1]) > 50 and int(compared[2]) > 5


def test_verify_finds_a_wrong_rule_everywhere_it_holds(build_program):
    image = ElfImage.open(build_program("gcc", "-O2"))
    table, changed, offset = _changed(image)
    assert verify_table(table, image).differences == []
    found = {difference.address for difference in verify_table(changed, image).differences}
    rows = [*table.rows(), (table.text_range[1], -1)]
    for (address, own), (following, _) in itertools.pairwise(rows):
        assert ({address, following - 1} <= found) == (own == offset)


def test_verify_finds_a_row_that_begins_a_byte_late(build_program, monkeypatch):
    image = ElfImage.open(build_program("gcc", "-O2"))
    table = build_table(image)
    address = table.rows().__next__()[0]
    monkeypatch.setattr(
        "cfi_tables.verify.table_offsets",
        lambda table, pcs, real=sys.modules["cfi_tables.verify"].table_offsets: np.where(
            np.array(pcs) == address, -1, real(table, pcs)
        ),
    )
    (only,) = verify_table(table, image).differences
    assert (only.address, only.table) == (address, "no information")


def test_verify_counts_what_readelf_does_not_tell(system_file):
    image = ElfImage.open(system_file("libcrypto.so.3"))
    found = verify_table(build_table(image), image)
    assert found.differences == []
    assert found.not_told_apart["what an expression computes"] > 10


def test_verify_of_an_object_by_way_of_ld(ptap, build_program):
    path = build_program("gcc", "-O2", "-g", "-ffunction-sections", "-c")
    done = ptap("verify", path)
    assert done.returncode == 0 and ", 0 differ" in done.stdout, done.stdout
    image = ElfImage.open(path)
    assert len(link_view(image).code_ranges) > 4
    table, changed, offset = _changed(image)
    found = {difference.address for difference in verify_table(changed, image).differences}
    assert {address for address, own in table.rows() if own == offset} <= found


def test_overlapping_fdes(tmp_path):
    """The first FDE is made to reach over the second and a gap: where the second ends, the first holds again."""
    target = tmp_path / "overlap.so"
    function = ".cfi_startproc\n.fill 8, 1, 0x90\n.cfi_def_cfa_offset {}\n.fill 8, 1, 0x90\n.cfi_endproc\n"
    source = ".text\n" + function.format(32) + function.format(64) + ".fill 32, 1, 0x90\n" + function.format(96)
    command = ["gcc", "-shared", "-nostdlib", "-x", "assembler", "-o", str(target), "-"]
    subprocess.run(command, input=source, text=True, check=True)
    section = ElfImage.open(target).sections[".eh_frame"]
    data = bytearray(target.read_bytes())
    fde = section.offset + 4 + int.from_bytes(data[section.offset : section.offset + 4], "little")
    assert int.from_bytes(data[fde + 12 : fde + 16], "little") == 16
    data[fde + 12 : fde + 16] = (48).to_bytes(4, "little")
    target.write_bytes(data)
    image = ElfImage.open(target)
    table = build_table(image)
    found = verify_table(table, image)
    assert found.fdes == 3 and found.differences == []
    told = [line.split("  ")[1] for line in format_rows(table)]
    assert told == [
        "CFA=rsp+8",
        "CFA=rsp+32",
        "CFA=rsp+8",
        "CFA=rsp+64",
        "CFA=rsp+32",
        "no information",
        "CFA=rsp+8",
        "CFA=rsp+96",
    ]


def test_diff(ptap, build_program, tmp_path):
    path = build_program("gcc", "-O2")
    table, changed, offset = _changed(ElfImage.open(path))
    same, other = tmp_path / "same.table", tmp_path / "other.table"
    table.save(same)
    changed.save(other)
    equal = ptap("diff", path, same)
    assert (equal.returncode, equal.stdout) == (0, "")
    assert ptap("diff", same, other).returncode == 1
    differing = list(table_differences(table, changed))
    rows = [*table.rows(), (table.text_range[1], -1)]
    wanted = [(a, b) for (a, own), (b, _) in itertools.pairwise(rows) if own == offset]
    assert [(each.start, each.end) for each in differing] == wanted
    assert all(each.first != each.second for each in differing)


def test_diff_of_tables_that_cannot_be_compared(ptap, build_program, tmp_path):
    damaged = tmp_path / "damaged.table"
    damaged.write_bytes(layout.TABLE_MAGIC.to_bytes(4, "little") + bytes(200))
    done = ptap("diff", damaged, build_program("gcc", "-O2"))
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_pipes_are_not_waited_for(ptap, build_program, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for arguments in (("show", pipe), ("stats", pipe), ("verify", pipe), ("diff", pipe, build_program("gcc", "-O2"))):
        done = ptap(*arguments)
        assert done.returncode == 2 and "no regular file" in done.stderr


def test_diff_of_two_machines(build_program):
    table = build_table(ElfImage.open(build_program("gcc", "-O2")))
    place = layout.HEADER_MACHINE
    other = _with_one_byte_changed(table, place, 183)
    with pytest.raises(TableError, match="one architecture"):
        list(table_differences(table, other))


def test_folder_of_build_is_a_file(ptap, build_program, tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("")
    done = ptap("build", build_program("gcc", "-O2"), "-o", file)
    assert done.returncode == 2 and "Traceback" not in done.stderr
