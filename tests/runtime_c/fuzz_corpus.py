"""What fuzzing of the C core begins with: small tables and stacks of real programs, and garbage stacks over them.

The layout of an input is told in fuzz_core.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from core_library import Stack
from garbage_stack import GarbageStacks
from sampled_stack import sampled_stacks
from shadow_stack.recorded_run import build_stepper

from cfi_tables import layout
from cfi_tables.table import CompactTable
from unwind.walk import MAPPING_WIDTH, RETURN_ADDRESS

_STACK_BYTES = 512
_GARBAGE = 24
_SAMPLES = 12
_LARGEST_TABLE = 6000
# CFA = *(rbp - 8); a PLT entry's ((rip & 15) >= 11) * 8 + rsp + 8; constants, branches and stack operations.
_EXPRESSIONS = (
    b"\x76\x78\x06",
    b"\x77\x08\x80\x00\x3f\x1a\x3b\x2a\x33\x24\x22",
    b"\x08\xff\x09\xfe\x0a\x01\x02\x0b\xff\xff\x0c\x01\x02\x03\x04\x0d\xff\xff\xff\xff\x14\x15\x02\x16\x17\x12\x13\x1b",
    b"\x0e" + bytes(range(8)) + b"\x0f" + bytes(8) + b"\x10\x85\x80\x01\x11\x7b\x19\x1f\x20\x23\x04\x1c\x1d\x1e\x21",
    b"\x31\x28\x03\x00\x96\x96\x96\x2f\x01\x00\x96\x92\x07\x08\x94\x04\x25\x26\x27\x29\x2b\x2c\x2d\x2e",
)


def write_corpus(directory: Path, tables: Sequence[CompactTable], programs: Sequence[Path], work: Path) -> int:
    """Write the inputs into `directory`; gives how many. `work` is where the stepper is built."""
    directory.mkdir()
    found = [*_garbage(tables), *_sampled(programs, work)]
    for number, (stack, mapping) in enumerate(found):
        (directory / f"{number:03}").write_bytes(_input(stack, mapping, _EXPRESSIONS[number % len(_EXPRESSIONS)]))
    return len(found)


def _garbage(tables: Sequence[CompactTable]) -> Iterator[tuple[Stack, int]]:
    for seed, table in enumerate(tables):
        assert len(table.data) <= _LARGEST_TABLE, (table.name, len(table.data))
        stacks = GarbageStacks([table], seed)
        for _ in range(_GARBAGE):
            yield stacks.next(), 0


def _sampled(programs: Sequence[Path], work: Path) -> Iterator[tuple[Stack, int]]:
    """Stacks of the programs where they run their own code."""
    stepper = build_stepper(work)
    for program in programs:
        count = 0
        for stack in sampled_stacks(stepper, [str(program)], 1):
            rows = stack.mappings.reshape(-1, MAPPING_WIDTH)
            pc = int(stack.state[RETURN_ADDRESS])
            inside = np.flatnonzero((rows[:, 0] <= pc) & (pc < rows[:, 1]) & (rows[:, 3] >= 0))
            if len(inside) and _table_size(stack, int(inside[0])) <= _LARGEST_TABLE:
                count += 1
                if count % 7 == 1:
                    yield stack, int(inside[0])
            if count == 7 * _SAMPLES:
                break


def _table_size(stack: Stack, mapping: int) -> int:
    place = int(stack.mappings[MAPPING_WIDTH * mapping + 3]) + layout.HEADER_TABLE_SIZE
    return int.from_bytes(stack.arena[place : place + 4].tobytes(), "little")


def _input(stack: Stack, mapping: int, expression: bytes) -> bytes:
    _, _, bias, place = stack.mappings[MAPPING_WIDTH * mapping : MAPPING_WIDTH * (mapping + 1)].tolist()
    start, offset, size, is_cut = stack.slices[:4].tolist()
    content = stack.content[offset : offset + min(size, _STACK_BYTES)].tobytes()
    table = stack.arena[place : place + _table_size(stack, mapping)].tobytes()
    head = struct.pack("<qqHHHH", bias, start, len(content), len(expression), is_cut | 2, 0)
    return stack.state.tobytes() + head + content + expression + table
