"""The C core and unwind.walk: the same frames, registers and stop reasons, on real stacks and on garbage."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from core_library import Core, Stack, Walked, build_library, build_program, walk_by_numba
from garbage_stack import GarbageStacks
from sampled_stack import sampled_stacks
from shadow_stack.recorded_run import build_stepper

from cfi_tables.elf_image import ElfImage
from cfi_tables.hot_loop import compiled
from cfi_tables.layout import StopReason
from cfi_tables.table import CompactTable, build_table
from unwind.expression import EVALUATED, STACK_DEPTH, evaluate
from unwind.walk import (
    FRAME_CFA,
    FRAME_FLAGS,
    FRAME_MAPPING,
    FRAME_PC,
    FRAME_WIDTH,
    REGISTER_COUNT,
    STATE_DETAIL,
    STATE_KNOWN,
    STATE_WIDTH,
)

_ROOM = 64
_GARBAGE = 10_000
_SANITIZED = 5_000
_EXPRESSIONS = 20_000


@pytest.fixture(scope="module", params=["gcc", "clang"])
def core(request: pytest.FixtureRequest, require_tool, tmp_path_factory: pytest.TempPathFactory) -> Core:
    require_tool(request.param, request.param)
    return Core(build_library(request.param, tmp_path_factory.mktemp("core")))


@pytest.fixture(scope="module")
def tables() -> list[CompactTable]:
    """Of libraries with all kinds of rules: expressions, signal frames, code without CFI."""
    names = ("libc.so.6", "ld-linux-x86-64.so.2", "libgcc_s.so.1", "libstdc++.so.6", "libcrypto.so.3")
    folders = (Path("/lib/x86_64-linux-gnu"), Path("/usr/lib/x86_64-linux-gnu"), Path("/lib64"), Path("/usr/lib64"))
    found = [next((folder / name for folder in folders if (folder / name).exists()), None) for name in names]
    assert found[0] is not None
    return [build_table(ElfImage.open(path)) for path in found if path is not None]


@pytest.mark.parametrize(
    ("name", "every"),
    [
        ("plt_call", 1), ("alternate_signal_stack", 2), ("setjmp_longjmp", 1), ("dynamic_frame", 2),
        ("cfi_directives", 1), ("exception_throw", 19), ("static_pie", 11),
    ],
)  # fmt: skip
def test_real_stacks(core, programs, require_tool, tmp_path, name, every):
    require_tool("gcc", "gcc")
    count = 0
    for stack in sampled_stacks(build_stepper(tmp_path), [str(programs.build(name))], every):
        mine, theirs = core.walk(stack, _ROOM), walk_by_numba(stack, _ROOM)
        assert mine.differences(theirs) == [], hex(int(stack.state[16]))
        count += 1
    assert count > 1000


def test_garbage(core, tables):
    stacks = GarbageStacks(tables, 1)
    reasons: Counter[int] = Counter()
    deep = 0
    for number in range(_GARBAGE):
        stack = stacks.next()
        mine, theirs = core.walk(stack, _ROOM), walk_by_numba(stack, _ROOM)
        assert mine.differences(theirs) == [], number
        reasons[mine.reason] += 1
        deep += mine.count > 2
    assert deep > _GARBAGE // 20
    # Garbage comes to nearly every end; rules that do not fit are too rare in these libraries.
    wanted = set(StopReason) - {
        StopReason.NO_REGISTERS, StopReason.NO_PROGRESS, StopReason.OVERFLOW, StopReason.BAD_EXPRESSION,
        StopReason.TOO_DEEP,
    }  # fmt: skip
    assert wanted <= set(reasons), {StopReason(reason).name for reason in wanted - set(reasons)}


def test_what_is_remembered_is_the_same(core, tables):
    """Stacks over the same mappings come to the same addresses again: half of the walks go by what others looked up."""
    stacks = GarbageStacks(tables, 6)
    for number in range(2000):
        stack = stacks.next()
        theirs = walk_by_numba(stack, _ROOM)
        for _ in range(2):
            assert core.walk(stack, _ROOM, generation=1).differences(theirs) == [], number


def test_addresses_need_few_registers(core, programs, require_tool, tables, tmp_path):
    """A walk that only asks for addresses finds the same frames, and ends for the same reason."""
    require_tool("gcc", "gcc")
    stacks = GarbageStacks(tables, 7)
    chosen = [stacks.next() for _ in range(2000)]
    sampled = sampled_stacks(build_stepper(tmp_path), [str(programs.build("dynamic_frame"))], 5)
    columns = [FRAME_PC, FRAME_CFA, FRAME_MAPPING, FRAME_FLAGS]
    fewer = 0
    for number, stack in enumerate([*chosen, *sampled]):
        whole, mine = core.walk(stack, _ROOM), core.walk(stack, _ROOM, only_needed=True)
        assert (mine.reason, mine.count) == (whole.reason, whole.count), number
        assert mine.state[STATE_DETAIL] == whole.state[STATE_DETAIL], number
        rows = [each.frames.reshape(-1, FRAME_WIDTH)[: whole.count, columns] for each in (mine, whole)]
        assert (rows[0] == rows[1]).all(), number
        assert mine.state[STATE_KNOWN] & ~whole.state[STATE_KNOWN] == 0
        fewer += mine.state[STATE_KNOWN] != whole.state[STATE_KNOWN]
    assert fewer > 0


def test_a_walk_goes_on_where_the_room_ended(core, tables):
    stacks = GarbageStacks(tables, 2)
    resumed = 0
    for _ in range(1000):
        stack = stacks.next()
        whole = core.walk(stack, _ROOM)
        first = core.walk(stack, 1)
        assert first.differences(walk_by_numba(stack, 1)) == []
        if first.reason != StopReason.TOO_DEEP:
            continue
        stack.state = first.state
        rest = core.walk(stack, _ROOM)
        assert rest.reason == whole.reason
        assert first.count + rest.count == whole.count
        resumed += 1
    assert resumed > 50


def test_garbage_with_sanitizers(require_tool, tables, tmp_path):
    """Nothing is read outside of what a stack has, and no arithmetic is undefined."""
    require_tool("gcc", "gcc")
    program = tmp_path / "replay"
    build_program(
        Path(__file__).with_name("replay.c"), program, "-O1", "-g", "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
    )  # fmt: skip
    # Small tables: each stack has a copy of them, so that the sanitizer sees their ends.
    small = sorted(tables, key=lambda table: len(table.data))[:2]
    stacks = GarbageStacks(small, 3)
    chosen = [stacks.next() for _ in range(_SANITIZED)]
    source = tmp_path / "stacks"
    with open(source, "wb") as file:
        for stack in chosen:
            arrays = (stack.arena, stack.mappings, stack.content, stack.slices)
            file.write(np.array([array.nbytes for array in arrays], dtype=np.int64).tobytes())
            for array in (*arrays, stack.state):
                file.write(array.tobytes())
    with open(source, "rb") as file:
        done = subprocess.run([str(program), str(_ROOM)], stdin=file, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    words = np.frombuffer(done.stdout, dtype=np.int64).reshape(len(chosen), -1)
    for stack, row in zip(chosen, words, strict=True):
        frames = 2 + STATE_WIDTH
        registers = frames + _ROOM * FRAME_WIDTH
        mine = Walked(int(row[0]), int(row[1]), row[frames:registers], row[registers:], row[2:frames])
        assert mine.differences(walk_by_numba(stack, _ROOM)) == []


def test_expressions(core):
    """Random programs of all operations, on random registers and memory."""
    random = np.random.default_rng(4)
    run = compiled(evaluate)
    scratch = np.zeros(STACK_DEPTH, dtype=np.int64)
    good = 0
    for number in range(_EXPRESSIONS):
        code = _random_expression(random)
        state = random.integers(-(1 << 63), (1 << 63) - 1, STATE_WIDTH)
        state[:REGISTER_COUNT:2] = 0x1000 + random.integers(0, 300, len(state[:REGISTER_COUNT:2]))
        state[STATE_KNOWN] = (1 << 17) - 1 if number % 3 else random.integers(1 << 17)
        content = random.integers(0, 256, 256, dtype=np.uint8)
        stack = Stack(
            np.zeros(8, dtype=np.uint8), np.zeros(0, dtype=np.int64), content,
            np.array([0x1000, 0, 256, 0], dtype=np.int64), state,
        )  # fmt: skip
        initial = int(state[0]) if number % 2 else None
        theirs = run(
            np.frombuffer(code, dtype=np.uint8), 0, len(code), state, int(state[STATE_KNOWN]), content, stack.slices,
            0, 1, initial or 0, initial is not None, scratch,
        )  # fmt: skip
        assert core.evaluate(stack, code, initial) == theirs, code.hex()
        good += theirs[0] == EVALUATED
    assert good > _EXPRESSIONS // 20


_OPERATIONS = [
    0x03, 0x06, *range(0x08, 0x18), *range(0x19, 0x30), 0x30, 0x31, 0x37, 0x4F,
    0x70, 0x77, 0x80, 0x8F, 0x92, 0x94, 0x96,
]  # fmt: skip
_EXTREMES = (0, 1, -1, 63, 64, -(1 << 63), (1 << 63) - 1, -(1 << 31), 1 << 55, -3)


def _random_expression(random: np.random.Generator) -> bytes:
    """Mostly pushes first, then operations with fitting operands, sometimes cut or damaged."""
    code = bytearray()
    for _ in range(int(random.integers(0, 5))):
        value = _EXTREMES[int(random.integers(len(_EXTREMES)))]
        code += b"\x0f" + value.to_bytes(8, "little", signed=True) if random.random() < 0.6 else b"\x72\x08"
    for _ in range(int(random.integers(1, 6))):
        code.append(_OPERATIONS[int(random.integers(len(_OPERATIONS)))])
        code += random.bytes(int(random.choice([0, 0, 0, 1, 2, 8, 10])))
    if random.random() < 0.3:
        code += b"\x96" * int(random.integers(1, 40))
    return bytes(code)


def test_a_deep_expression_stack_is_refused(core, tables):
    stack = GarbageStacks(tables, 5).next()
    pushes = b"\x31"
    for depth in range(60, 70):
        status, _ = core.evaluate(stack, pushes * depth, None)
        assert (status == EVALUATED) == (depth < STACK_DEPTH)
