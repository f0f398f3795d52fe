"""ElfImage and the symbol tables against pyelftools; damaged files give ElfError and nothing else."""

from __future__ import annotations

import random
import subprocess

import pytest
from elftools.elf.elffile import ELFFile

from cfi_tables.debug_file import find_debug_file
from cfi_tables.elf_image import ElfError, ElfImage
from cfi_tables.symbol_table import symbols


@pytest.mark.parametrize("name", ["libc.so.6", "gdb", "ls"])
def test_headers_and_contents(name, system_file):
    path = system_file(name)
    image = ElfImage.open(path)
    with open(path, "rb") as file:
        oracle = ELFFile(file)
        assert image.entry == oracle["e_entry"]
        assert image.build_id.hex() == next(
            note["n_desc"]
            for note in oracle.get_section_by_name(".note.gnu.build-id").iter_notes()
            if note["n_type"] == "NT_GNU_BUILD_ID"
        )
        sections = list(oracle.iter_sections())
        assert [s.name for s in image.section_list] == [s.name for s in sections]
        for mine, theirs in zip(image.section_list, sections, strict=True):
            assert (mine.address, mine.offset, mine.size, mine.link, mine.info, mine.entry_size, mine.flags) == tuple(
                theirs[key]
                for key in ("sh_addr", "sh_offset", "sh_size", "sh_link", "sh_info", "sh_entsize", "sh_flags")
            )
        for section in (".eh_frame", ".dynstr", ".text"):
            assert image.section_data(section).tobytes() == oracle.get_section_by_name(section).data()
        assert [(s.offset, s.address, s.file_size, s.memory_size) for s in image.segments] == [
            (s["p_offset"], s["p_vaddr"], s["p_filesz"], s["p_memsz"]) for s in oracle.iter_segments()
        ]
        text = oracle.get_section_by_name(".text")
        assert image.address_to_offset(text["sh_addr"] + 3) == text["sh_offset"] + 3
        assert image.offset_to_address(text["sh_offset"] + 3) == text["sh_addr"] + 3
        assert image.read(text["sh_addr"], 64) == text.data()[:64]
        table = symbols(image, ".dynsym")
        theirs = list(oracle.get_section_by_name(".dynsym").iter_symbols())
        assert table.names() == [s.name for s in theirs]
        assert table.value.tolist() == [s["st_value"] for s in theirs]
        assert table.size.tolist() == [s["st_size"] for s in theirs]
        last = table.names()[-1]
        assert len(table) - 1 in table.find(last)


@pytest.mark.parametrize("method", ["zlib-gabi", "zlib-gnu"])
def test_compressed_sections(method, build_program, tmp_path):
    path = build_program("gcc", "-O2", "-g")
    target = tmp_path / method
    subprocess.run(["objcopy", f"--compress-debug-sections={method}", str(path), str(target)], check=True)
    plain, packed = ElfImage.open(path), ElfImage.open(target)
    assert target.stat().st_size < path.stat().st_size
    for name in (".debug_info", ".debug_line", ".debug_str"):
        assert packed.has(name)
        assert packed.section_data(name).tobytes() == plain.section_data(name).tobytes()


def test_zstd_compressed_section(build_program):
    """Debian 12's binutils cannot write zstd, so the section is put together here, after the gABI."""
    import struct

    import zstandard

    path = build_program("gcc", "-O2", "-g")
    image = ElfImage.open(path)
    wanted = image.section_data(".debug_info").tobytes()
    packed = struct.pack("<IIQQ", 2, 0, len(wanted), 1) + zstandard.ZstdCompressor().compress(wanted)
    data = bytearray(path.read_bytes())
    section = image.sections[".debug_info"]
    header = int.from_bytes(data[40:48], "little") + 64 * section.index
    struct.pack_into("<Q", data, header + 8, section.flags | 0x800)
    struct.pack_into("<QQ", data, header + 24, len(data), len(packed))
    assert ElfImage.from_bytes(bytes(data) + packed, "zstd").section_data(".debug_info").tobytes() == wanted
    damaged = bytes(data) + packed[:40] + bytes(len(packed) - 40)
    with pytest.raises(ElfError, match=r"\.debug_info"):
        ElfImage.from_bytes(damaged, "zstd").section_data(".debug_info")


def test_no_section_headers(build_program):
    path = build_program("gcc", "-O2")
    data = bytearray(path.read_bytes())
    whole = ElfImage.open(path)
    data[40:48] = bytes(8)  # e_shoff
    data[60:62] = bytes(2)  # e_shnum
    image = ElfImage.from_bytes(bytes(data), "no sections")
    assert image.sections == {}
    assert image.build_id == whole.build_id is not None
    with pytest.raises(ElfError, match="no section"):
        image.section_data(".text")


def test_the_vdso():
    with open("/proc/self/maps") as maps:
        low, high = next(line.split()[0].split("-") for line in maps if "[vdso]" in line)
    with open("/proc/self/mem", "rb") as memory:
        memory.seek(int(low, 16))
        image = ElfImage.from_bytes(memory.read(int(high, 16) - int(low, 16)), "[vdso]")
    assert image.has(".eh_frame")
    assert "__vdso_clock_gettime" in symbols(image, ".dynsym").names()


def _use(image: ElfImage) -> None:
    for name in image.sections:
        if image.has(name):
            image.section_data(name)
    for name in (".symtab", ".dynsym"):
        table = symbols(image, name)
        if table is not None:
            table.names()
    image.address_to_offset(image.entry)
    image.read(image.entry, 100)


def test_damaged_files(build_program):
    data = build_program("gcc", "-O2", "-g").read_bytes()
    source = random.Random(20)
    refused = 0
    for number in range(300):
        changed = bytearray(data)
        if number % 3 == 0:
            del changed[source.randrange(len(changed)) :]
        else:
            tables = [(0, 64), (64, 64 + 56 * 12), (int.from_bytes(data[40:48], "little"), len(data))]
            low, high = tables[number % 3]
            for _ in range(source.randrange(1, 6)):
                changed[source.randrange(low, high)] = source.choice([0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)])
        try:
            _use(ElfImage.from_bytes(bytes(changed), "damaged"))
        except ElfError as error:
            refused += 1
            assert str(error).startswith("damaged: ")
    assert refused > 80


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF" + bytes(60)])
def test_no_elf_file(content, tmp_path):
    path = tmp_path / "script"
    path.write_bytes(content)
    with pytest.raises(ElfError, match="script"):
        ElfImage.open(path)


# --- separate debug files


@pytest.fixture
def split(build_program, tmp_path):
    """A stripped program and its debug file, without a link between them."""
    path = build_program("gcc", "-O2", "-g")
    stripped, debug = tmp_path / "bin" / "program", tmp_path / "program.debug"
    stripped.parent.mkdir()
    subprocess.run(["objcopy", "--only-keep-debug", str(path), str(debug)], check=True)
    subprocess.run(["objcopy", "--strip-debug", str(path), str(stripped)], check=True)
    return stripped, debug


def _place_by_id(root, image, debug):
    identity = image.build_id.hex()
    target = root / ".build-id" / identity[:2] / f"{identity[2:]}.debug"
    target.parent.mkdir(parents=True)
    debug.rename(target)
    return target


def test_debug_file_by_build_id(split, tmp_path):
    stripped, debug = split
    image = ElfImage.open(stripped)
    missing = find_debug_file(image, (str(tmp_path / "debug"),))
    assert missing.image is None
    assert missing.looked_at and all(path in missing.reason for path in missing.looked_at)
    target = _place_by_id(tmp_path / "debug", image, debug)
    found = find_debug_file(image, (str(tmp_path / "debug"),))
    assert (found.path, found.reason) == (str(target), "")
    assert found.image.has(".debug_info")


def test_debug_file_of_another_build_is_refused(split, tmp_path, build_program):
    stripped, _ = split
    image = ElfImage.open(stripped)
    other = tmp_path / "other"
    other.write_bytes(build_program("gcc", "-O0", "-g").read_bytes())
    _place_by_id(tmp_path / "debug", image, other)
    found = find_debug_file(image, (str(tmp_path / "debug"),))
    assert found.image is None
    assert image.build_id.hex() in found.reason
    assert ElfImage.open(build_program("gcc", "-O0", "-g")).build_id.hex() in found.reason


@pytest.mark.parametrize("place", ["bin/program.debug", "bin/.debug/program.debug", "global"])
def test_debug_file_by_link(split, tmp_path, place):
    stripped, debug = split
    subprocess.run(["objcopy", f"--add-gnu-debuglink={debug}", str(stripped)], check=True)
    subprocess.run(["objcopy", "--remove-section=.note.gnu.build-id", str(stripped)], check=True)
    image = ElfImage.open(stripped)
    assert image.build_id is None
    root = tmp_path / "debug"
    target = root / str(stripped.parent)[1:] / "program.debug" if place == "global" else tmp_path / place
    target.parent.mkdir(parents=True, exist_ok=True)
    content = debug.read_bytes()
    debug.rename(target)
    found = find_debug_file(image, (str(root),))
    assert found.path == str(target)
    target.write_bytes(content + b"\0")
    refused = find_debug_file(image, (str(root),))
    assert refused.image is None
    assert "CRC" in refused.reason


def test_a_damaged_debug_file_of_the_same_build_is_refused(split, tmp_path):
    stripped, debug = split
    subprocess.run(["objcopy", f"--add-gnu-debuglink={debug}", str(stripped)], check=True)
    image = ElfImage.open(stripped)
    assert image.build_id == ElfImage.open(debug).build_id is not None
    target = stripped.parent / "program.debug"
    content = bytearray(debug.read_bytes())
    debug.rename(target)
    assert find_debug_file(image, ()).path == str(target)
    content[ElfImage.open(target).sections[".debug_info"].offset + 40] ^= 1
    target.write_bytes(content)
    refused = find_debug_file(image, ())
    assert refused.image is None
    assert "CRC" in refused.reason and str(target) in refused.reason
