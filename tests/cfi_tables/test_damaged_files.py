"""Damaged ELF files: an error that names the file, or a table; and memory by the file's size, not by its numbers."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from cfi_writer import instruction as i
from cfi_writer.elf_writer import ALLOC, COMPRESSED, EXECUTE, NOBITS, ElfSection, write_elf
from cfi_writer.frame_section_writer import Cie, FrameSectionWriter
from damaged_sections import damage

from cfi_tables.elf_image import EM_X86_64, ElfError, ElfImage
from cfi_tables.hot_loop import compiled
from cfi_tables.lookup import find_rule
from cfi_tables.table import TableError, build_table

_TIMES = 2500
_CODE = ElfSection(".text", address=0x1000, flags=ALLOC | EXECUTE, type=NOBITS, size=0x1000)


def _frames(is_eh: bool = True, length: int = 0x100, start: int = 0x1000) -> bytes:
    writer = FrameSectionWriter(is_eh, 0x4000)
    cie = Cie([i.def_cfa(7, 8), i.offset(16, 1)])
    writer.fde(cie, writer.cie(cie), start, length, [i.advance_loc(4), i.def_cfa_offset(16)])
    return bytes(writer.data)


def _orc_module(source: random.Random) -> bytes:
    """What a kernel's sections look like, with entries of any sort of the layout of 6.4."""
    count = 40
    base = 0x4000
    places = b"".join(struct.pack("<i", 0x1000 + 16 * index - (base + 4 * index)) for index in range(count))
    rows = b"".join(
        struct.pack(
            "<hhH", 8 * source.randrange(9), -16, source.choice([5, 4, 8]) | source.choice([0, 1]) << 4 | 2 << 8
        )
        for _ in range(count)
    )
    digest = bytes.fromhex("fe5d32bf581bd63b2ca9a5c65ba5a625eab3fe24")
    return write_elf(
        EM_X86_64,
        [_CODE, ElfSection(".orc_unwind_ip", places, base, ALLOC), ElfSection(".orc_unwind", rows, 0x5000, ALLOC),
         ElfSection(".orc_header", digest, 0x6000, ALLOC),
         ElfSection(".debug_frame", _frames(False, 0x200))],
    )  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory, require_tool) -> list[bytes]:
    """Small files of every kind: linked, relocatable, of 32 bits, compressed, with ORC."""
    compiler = require_tool("gcc", "gcc")
    folder = tmp_path_factory.mktemp("files")
    source = folder / "source.c"
    source.write_text("int g(int); int f(int n) { char b[99]; g((int)(long)b); return n ? f(n - 1) + g(n) : 3; }\n")
    made = []
    for flags in (
        ("-c",), ("-shared", "-nostdlib"), ("-m32", "-c"), ("-g", "-c", "-gz=zlib", "-fno-asynchronous-unwind-tables"),
    ):  # fmt: skip
        target = folder / "made.o"
        subprocess.run([compiler, "-O2", "-fPIC", *flags, "-o", str(target), str(source)], check=True)
        made.append(target.read_bytes())
    return [*made, _orc_module(random.Random(1))]


def _used(data: bytes) -> int:
    """The rows of the file's table, after lookups at all of them."""
    table = build_table(ElfImage.from_bytes(data, "damaged"), use_compiled=True)
    addresses, records = table.row_columns()
    find = compiled(find_rule)
    for address, record in zip((addresses + table.text_range[0]).tolist(), records.tolist(), strict=True):
        assert find(table.data, 0, address) in (record, -1)
    return table.row_count


def test_damaged_files(files):
    source = random.Random(5)
    refused, rows = 0, 0
    assert all(_used(data) > 3 for data in files)
    for number in range(_TIMES):
        whole = files[number % len(files)]
        data = damage(source, whole)
        if number % 2:  # the tables of sections and segments, rather than what is in them
            where = source.choice([range(16, 64), range(max(len(whole) - 900, 64), len(whole))])
            changed = bytearray(whole)
            for _ in range(source.choice([1, 2, 4])):
                changed[source.choice(where)] = source.choice([0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)])
            data = bytes(changed)
        try:
            rows += _used(data)
        except (ElfError, TableError) as error:
            refused += 1
            assert str(error).startswith("damaged: ")
        except BaseException:
            print(f"number {number}: {data.hex()}")
            raise
    assert refused > _TIMES // 10 and rows > _TIMES


def test_code_that_spans_2_gib():
    """Each section alone is narrow enough; both together are not, and addresses would wrap around."""
    code = ElfSection(".text", address=0x1000, flags=ALLOC | EXECUTE, type=NOBITS, size=1 << 34)
    for start, fits in ((0x7FFF_F000, True), (0x3_0000_0000, False)):
        frames = ElfSection(".eh_frame", _frames(), 0x4000, ALLOC)
        data = write_elf(EM_X86_64, [code, frames, ElfSection(".debug_frame", _frames(False, start=start))])
        if fits:
            table = build_table(ElfImage.from_bytes(data, "wide"))
            assert table.text_range == (0x1000, start + 0x100) and table.row_count == 5
            continue
        with pytest.raises(TableError, match="wide: its code is said to lie from 0x1000 to 0x300000100"):
            build_table(ElfImage.from_bytes(data, "wide"))


def test_rules_in_every_order():
    """No rule is likely to follow another, so no successor pays for its place in the table."""
    writer = FrameSectionWriter(True, 0x4000)
    cie = Cie([i.def_cfa(7, 16), i.offset(16, 1)])
    program = [
        each
        for first in range(5)
        for second in range(5)
        for rule in (first, second)
        for each in (i.advance_loc(1), i.def_cfa_offset(16 + 8 * rule))
    ]
    writer.fde(cie, writer.cie(cie), 0x1000, 0x100, program)
    table = build_table(ElfImage.from_bytes(_file(bytes(writer.data)), "mixed"))
    assert table.skipped == [] and table.rule_count == 6 and table.row_count > 30


# --- numbers that ask for memory

_COMPRESSION = struct.Struct("<IIQQ")


def _zstd(content: bytes, size: int) -> bytes:
    import zstandard

    return _COMPRESSION.pack(2, 0, size, 1) + zstandard.ZstdCompressor(write_content_size=False).compress(content)


def _file(frames: bytes, name: str = ".eh_frame", flags: int = ALLOC, code: ElfSection = _CODE) -> bytes:
    return write_elf(EM_X86_64, [code, ElfSection(name, frames, 0x4000 if flags & ALLOC else 0, flags)])


def _numbers() -> dict[str, bytes]:
    """Files with one number each that says there is much more than there is."""
    import zlib

    import zstandard

    frames = _frames()
    packed = zlib.compress(frames)
    # A frame header that tells of a window of 2**41 bytes or so, and one of a content of 2**40.
    window = bytes.fromhex("28b52ffd") + b"\x00\xf8" + b"\x01\x00\x00"
    content = bytes.fromhex("28b52ffd") + b"\xe0" + struct.pack("<Q", 1 << 40) + b"\x01\x00\x00"
    block = i.def_cfa_expression(b"")[:1] + b"\xff\xff\xff\xff\x07"
    writer = FrameSectionWriter(True, 0x4000)
    cie = Cie([i.def_cfa(7, 8)])
    writer.fde(cie, writer.cie(cie), 0x1000, 0x100, [block])
    wide = b"\xff\xff\xff\xff" + struct.pack("<Q", 1 << 40) + bytes(64)
    found = {
        "an entry of 4 GiB": _file(b"\xf0\xff\xff\xff" + frames[4:]),
        "an entry of 64-bit DWARF": _file(wide),
        "an expression of 2 GiB": _file(bytes(writer.data)),
        "code of 1 TiB": _file(_frames(length=1 << 40), code=ElfSection(
            ".text", address=0x1000, flags=ALLOC | EXECUTE, type=NOBITS, size=1 << 45)),
        "zlib": _file(_COMPRESSION.pack(1, 0, 1 << 40, 1) + packed, ".debug_frame", COMPRESSED),
        "zlib of 32 bits": _file(_COMPRESSION.pack(1, 0, 0xFFFFFFFF, 1) + packed, ".debug_frame", COMPRESSED),
        "zstd": _file(_zstd(frames, 1 << 33), ".debug_frame", COMPRESSED),
        "zstd, a window": _file(_COMPRESSION.pack(2, 0, 1 << 33, 1) + window, ".debug_frame", COMPRESSED),
        "zstd, a content": _file(_COMPRESSION.pack(2, 0, 1 << 33, 1) + content, ".debug_frame", COMPRESSED),
        "GNU's compression": _file(b"ZLIB" + struct.pack(">Q", 1 << 40) + packed, ".zdebug_frame", 0),
    }  # fmt: skip
    for size in (1 << 30, 1 << 40):
        many = _COMPRESSION.pack(2, 0, size, 1) + zstandard.compress(bytes(1 << 30))
        found[f"zstd, zeros, told as {size}"] = _file(many, ".debug_frame", COMPRESSED)
    whole = _file(frames)
    (table,) = struct.unpack_from("<Q", whole, 40)
    for name, at, value in (
        ("section size", table + 2 * 64 + 32, 1 << 40), ("section count", table + 32, 1 << 40),
        ("segment size", 64 + 40, 1 << 62), ("segment file size", 64 + 32, 1 << 62),
        ("names", table + 3 * 64 + 32, 1 << 40), ("section table", 40, 1 << 60),
    ):  # fmt: skip
        changed = bytearray(whole)
        struct.pack_into("<Q", changed, at, value)
        if name == "section count":
            changed[60:62] = bytes(2)
        found[name] = bytes(changed)
    return found


def _wrapped() -> dict[str, bytes]:
    """Compressed files that ask for much memory: kernels and modules come compressed."""
    import lzma
    import zlib

    import zstandard

    whole = _file(_frames())
    dictionary = bytearray(lzma.compress(whole))
    # xz: the block header's filter flags, where a byte tells the dictionary's size: 40 is 4 GiB; then its CRC.
    place = 12 + 4
    assert dictionary[12 + 2 : place] == b"\x21\x01"
    dictionary[place] = 40
    dictionary[20:24] = zlib.crc32(dictionary[12:20]).to_bytes(4, "little")
    zeros = bytes(64 << 20)
    return {
        "a file in xz, a dictionary": bytes(dictionary),
        "a file in lzma, a dictionary": b"\x5d\x00\x00\xff\xff" + lzma.compress(whole, lzma.FORMAT_ALONE)[5:],
        "a file in zstd, a window": bytes.fromhex("28b52ffd") + b"\x00\xf8" + b"\x01\x00\x00",
        "a file in zstd, zeros": zstandard.compress(zeros),
        "a file in xz, zeros": lzma.compress(zeros),
        "a file in gzip, zeros": zlib.compress(zeros, wbits=31),
    }


_LIMITED = """
import resource, sys
from test_damaged_files import *
from test_damaged_files import _file, _frames, _numbers, _used, _wrapped
from cfi_tables.image_file import expand
import lzma, zstandard, zlib
files, wrapped = _numbers(), _wrapped()
_used(_file(_frames()))
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (256 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for name, data in (*files.items(), *wrapped.items()):
    try:
        print(name, _used(data if name in files else expand(data, "damaged")), "rows", sep=": ")
    except (ElfError, TableError) as error:
        print(name, error, sep=": ")
print("done")
"""


def test_memory_is_bounded_by_the_file():
    """With room for 256 MiB more than a sound file takes, each file gives its error or its table."""
    here = Path(__file__).resolve().parent
    paths = map(str, (here.parents[1], here.parent, here))
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED], env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    print(done.stdout)
    assert lines[-1] == "done" and len(lines) > 20
    assert sum(" rows" in line for line in lines) < len(lines) // 2
    assert "allocate" not in done.stdout
