"""Damaged core files of i386 and aarch64, and core files of machines that cannot be read."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from cores.conftest import CoreOf, ptap_report
from cores.foreign_machine import SYSROOT, aarch64_program, emulated, i386_program
from cores.gdb_core import core_at

from relay_reader.capture import Sample
from relay_reader.core_file import CoreFault, CoreFile, CoreFileError

REGISTERS = {"i386": 9, "aarch64": 33}
_PT_LOAD, _PT_NOTE = 1, 4


@pytest.fixture(scope="module", params=REGISTERS)
def foreign(request, tmp_path_factory, require_tool) -> tuple[str, CoreOf]:
    folder: Path = tmp_path_factory.mktemp(request.param)
    if request.param == "aarch64":
        program = aarch64_program(require_tool, folder, "signal_stack.c", "-O0", "-no-pie")
        return request.param, emulated(require_tool, program, folder / "dump")
    require_tool("gdb", "gdb")
    program = i386_program(require_tool, folder, "signal_stack.c", "-O0")
    return request.param, CoreOf(core_at(program, [], [], folder / "core"), program)


def _headers(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(kind, offset, size in the file) of the program headers of either class."""
    wide = data[4] == 2
    table, count = (
        (*struct.unpack_from("<Q", data, 32), *struct.unpack_from("<H", data, 56)) if wide
        else (*struct.unpack_from("<I", data, 28), *struct.unpack_from("<H", data, 44))
    )  # fmt: skip
    for index in range(count):
        row = struct.unpack_from("<IIQQQQQQ" if wide else "<8I", data, table + (56 if wide else 32) * index)
        yield (row[0], row[2], row[5]) if wide else (row[0], row[1], row[4])


def _report(core: Path, program: Path) -> tuple[list[dict], str]:
    done = ptap_report(core, "--locals", "-e", program, "--sysroot", SYSROOT, "--format", "json")
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_truncated_files_of_others_give_what_is_whole(foreign, tmp_path):
    _, found = foreign
    data = found.core.read_bytes()
    ((whole,), _) = _report(found.core, found.program)
    expected = [(frame["address"], frame["function"]) for frame in whole["frames"]]
    loads = sorted(offset for kind, offset, size in _headers(data) if kind == _PT_LOAD and size)
    cut = tmp_path / "core"
    for size in (loads[len(loads) // 2] + 100, loads[-1] + 10):
        cut.write_bytes(data[:size])
        traces, said = _report(cut, found.program)
        if not traces:
            assert "no thread's registers" in said  # gdb writes the notes last
            continue
        assert CoreFault.MEMORY_CUT_SHORT.value in said
        frames = [(frame["address"], frame["function"]) for frame in traces[0]["frames"]]
        # Without its memory a file is not found, and its functions have no names.
        for (address, function), (right, called) in zip(frames, expected, strict=False):
            assert address == right and function in (called, None)


def test_flipped_bits_in_files_of_others(foreign, tmp_path):
    name, found = foreign
    data = found.core.read_bytes()
    header = 64 if data[4] == 2 else 52
    headers = list(_headers(data))
    parts = [(0, header), (header, (56 if data[4] == 2 else 32) * len(headers))]
    parts += [(offset, size) for kind, offset, size in headers if kind == _PT_NOTE]
    chance = random.Random(23)
    damaged = tmp_path / "core"
    damaged.write_bytes(data)
    outcomes = set()
    with damaged.open("r+b", buffering=0) as file:
        for _ in range(150):
            places = []
            for _ in range(chance.choice((1, 1, 3, 12))):
                begin, size = chance.choice(parts)
                places.append(begin + chance.randrange(size))
            for place in places:
                file.seek(place)
                file.write(bytes((data[place] ^ 1 << chance.randrange(8),)))
            outcomes.add(_outcome(damaged, REGISTERS[name]))
            for place in places:
                file.seek(place)
                file.write(data[place : place + 1])
    assert outcomes == {"refused", "faults", "read"}


def _outcome(path: Path, registers: int) -> str:
    """How reading a core file ends."""
    try:
        core = CoreFile(path)
    except CoreFileError as error:
        assert str(path) in str(error)
        return "refused"
    for event in core.events():
        if isinstance(event, Sample):
            assert len(event.registers) == registers
            for register in event.registers:
                assert len(core.read(register, 64)) <= 64
    found = "faults" if core.faults else "read"
    core.close()
    return found


def test_damaged_memory_of_others_is_reported_to_the_end(foreign, tmp_path):
    """The dynamic linker's list, stacks, frames of signals: whatever stands there, the report ends, and in words."""
    _, found = foreign
    data = found.core.read_bytes()
    chance = random.Random(5)
    loads = [(offset, size) for kind, offset, size in _headers(data) if kind in (_PT_LOAD, _PT_NOTE) and size]
    damaged = tmp_path / "core"
    for number in range(2):
        changed = bytearray(data)
        for _ in range(500 * (number + 1)):
            begin, size = chance.choice(loads)
            changed[begin + chance.randrange(size)] ^= 1 << chance.randrange(8)
        damaged.write_bytes(changed)
        _report(damaged, found.program)


@pytest.mark.parametrize(
    ("machine", "elf_class", "order", "words"),
    [
        (40, 1, 1, "32-bit ARM"),
        (243, 2, 1, "RISC-V"),
        (21, 2, 1, "64-bit PowerPC"),
        (9999, 2, 1, "ELF machine 9999"),
        (62, 1, 1, "x86-64 code with 32-bit addresses"),
        (8, 1, 2, "big-endian"),
    ],
)
def test_core_files_of_other_machines_are_refused_by_name(tmp_path, machine, elf_class, order, words):
    path = tmp_path / "core"
    rest = struct.pack("<HHI", 4, machine, 1) if order == 1 else struct.pack(">HHI", 4, machine, 1)
    path.write_bytes(bytes((0x7F, *b"ELF", elf_class, order, 1)).ljust(16, b"\0") + rest.ljust(256, b"\0"))
    with pytest.raises(CoreFileError) as refused:
        CoreFile(path)
    assert words in str(refused.value) and "x86-64, i386, aarch64" in str(refused.value)
