"""Over a million walks of garbage by the C core, with the address and undefined-behaviour sanitizers.

PTAP_GARBAGE_WALKS and PTAP_GARBAGE_SEED say how many, and from which seed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from core_library import build_program
from kernel.kernel_package import debug_vmlinux, kernel_package
from programs.debian_archive import NotInArchive

from cfi_tables.cache import table_for
from cfi_tables.image_file import open_image
from cfi_tables.layout import StopReason
from cfi_tables.table import CompactTable

_WALKS = int(os.environ.get("PTAP_GARBAGE_WALKS") or 1_200_000)
_SEED = int(os.environ.get("PTAP_GARBAGE_SEED") or 1)
_KERNEL = "6.1"
_LIBRARIES = ("/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
_FIRST_LIBRARY, _DISTANCE = 0x7F00_0000_0000, 1 << 32
_SLIDE = 0x1DE0_0000


_IMPOSSIBLE_HERE = {StopReason.BAD_EXPRESSION, StopReason.OVERFLOW, StopReason.NO_REGISTERS, StopReason.NO_PROGRESS}
"""What tables of real files and a walk with registers do not come to."""


def _kernel_table() -> CompactTable:
    """Of the kernel with DWARF, where that is or may be fetched, else of what has ORC alone."""
    try:
        return table_for(open_image(debug_vmlinux(_KERNEL)))
    except NotInArchive:
        return table_for(open_image(kernel_package(_KERNEL).vmlinuz))


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> list[str]:
    """Arguments: each table's file and what its code is moved by."""
    folder = tmp_path_factory.mktemp("tables")
    try:
        found = [(table_for(open_image(Path(path))), _FIRST_LIBRARY) for path in _LIBRARIES]
        found = [(table, base + _DISTANCE * number) for number, (table, base) in enumerate(found)]
        found.append((_kernel_table(), _SLIDE))
    except (NotInArchive, FileNotFoundError) as error:
        pytest.skip(str(error))
    arguments = []
    for number, (table, bias) in enumerate(found):
        (folder / str(number)).write_bytes(table.data.tobytes())
        arguments += [str(folder / str(number)), hex(bias)]
    return arguments


@pytest.fixture(scope="module")
def program(require_tool, tmp_path_factory) -> Path:
    require_tool("gcc", "gcc")
    target = tmp_path_factory.mktemp("program") / "garbage_walks"
    source = Path(__file__).with_name("garbage_walks.c")
    build_program(source, target, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    return target


def _run(program: Path, walks: int, beyond: int, tables: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [str(program), str(_SEED), str(walks), str(beyond), *tables]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_garbage_never_leads_a_walk_astray(program, tables):
    """Each walk ends with a reason after a bounded number of reads, all of them inside of what it was given."""
    done = _run(program, _WALKS, 0, tables)
    assert done.returncode == 0, done.stderr[-6000:]
    told = [line.split() for line in done.stdout.splitlines()]
    reasons = {StopReason(int(line[1])): int(line[2]) for line in told if line[0] == "reason"}
    counts = {line[0]: int(line[1]) for line in told if line[0] != "reason"}
    print({reason.name: count for reason, count in reasons.items() if count}, counts)
    # Walks that went on count again.
    assert sum(reasons.values()) >= _WALKS > 1_000_000
    # All parts of the walk were reached: every reason but those of what these mappings do not have, and many frames.
    never = {reason for reason, count in reasons.items() if not count}
    assert never <= _IMPOSSIBLE_HERE, never
    assert counts["frames"] > _WALKS and counts["near"] > _WALKS // 10 and counts["deepest"] > 10


def test_what_is_read_beyond_is_found(program, tables):
    """The sanitizer sees the ends of the memory that walks are given."""
    done = _run(program, 10_000, 8, tables)
    assert done.returncode != 0 and "heap-buffer-overflow" in done.stderr
