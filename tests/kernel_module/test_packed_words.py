"""The words of records as the module's own code packs them, outside of a kernel, and what is read of them."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from kernel_module.packed_record import UserPart, hit_record, packed, read_record, unpacked

from relay_reader import record_layout as layout
from relay_reader.hit_record import HitRecordError, read_hit
from relay_reader.packed_words import PackedWordsError, packed_size, unpack_words

_RUNTIME = Path(__file__).resolve().parents[2] / "runtime_c"
_WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wconversion"]
_CHECKED = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def _place(high: int) -> int:
    """Where the module looks for an upper half (HASH in ptap_pack.c)."""
    return (high * 0x9E3779B1 & 0xFFFF_FFFF) >> 22


_FREQUENT = [0, 0xFFFF_FFFF, 0xFFFF_8880, 0xFFFF_C900, 0x7FFD, 0x7F12, 0x5555]
_ALIKE = [high for high in range(1, 4000) if _place(high) in {_place(0), _place(0xFFFF_FFFF), _place(0x5555)}]
"""They come to the places of others."""
_HIGHS = st.sampled_from(_FREQUENT) | st.sampled_from(_ALIKE) | st.integers(0, 20)
_LOWS = st.integers(0, 0xFFFF_FFFF)
_WORD = st.builds(lambda high, low: high << 32 | low, _HIGHS, _LOWS) | st.integers(0, (1 << 64) - 1)
"""Those of real records have few upper halves; more than have a code are there, too."""
_WORDS = st.lists(_WORD, max_size=120)
_ADDRESS = _WORD.map(lambda word: word & ~7)


@st.composite
def _runs(draw) -> list[tuple[int, list[int]]]:
    """Near each other, behind each other, before each other."""
    found, end = [], draw(_ADDRESS)
    for _ in range(draw(st.integers(0, 6))):
        words = draw(st.lists(_WORD, min_size=1, max_size=12))
        address = draw(st.sampled_from([0, 8, 400, 8 * 0xFFFE, 8 * 0xFFFF, -800]) | st.just(draw(_ADDRESS) - end)) + end
        address = min(address % (1 << 64), (1 << 64) - 8 * len(words))
        found.append((address & ~7, words))
        end = found[-1][0] + 8 * len(words)
    return found


@given(_WORDS)
def test_words_come_back_as_they_were(words):
    content, highs = packed(words)
    assert len(content) == packed_size(len(words), highs)
    assert unpack_words(memoryview(content), len(words), highs) == words
    assert unpacked(content, len(words), highs) == (words, len(content))


def test_words_like_those_of_stacks_take_half():
    words = [0xFFFF_FFFF_8100_0000 + number for number in range(40)] + [0x7FFD_0000_1000 + n for n in range(40)]
    assert len(packed(words)[0]) <= 0.6 * 8 * len(words)


@given(st.lists(st.integers(0, 0xFFFF_FFFF), max_size=40), st.integers(0, 40), st.integers(0, 20))
def test_any_bytes_are_words_or_an_error(content, count, highs):
    """And where they are words, they are those that the twin reads."""
    raw = b"".join(each.to_bytes(4, "little") for each in content)
    try:
        words = unpack_words(memoryview(raw), count, highs)
    except PackedWordsError:
        return
    assert words == unpacked(raw, count, highs)[0]


@pytest.mark.parametrize(
    ("codes", "count", "highs"), [(0x2, 2, 0), (0xE, 2, 12), (0xFF, 2, 14), (0xF, 2, 15), (0, 2, 14), (0x10, 1, 0)]
)
def test_a_half_that_was_not_told_is_an_error(codes, count, highs):
    """Nor may one be told for no word, or a code stand where there is no entry."""
    with pytest.raises(PackedWordsError):
        unpack_words(memoryview(codes.to_bytes(4, "little") + bytes(4 * (count + highs))), count, highs)


_REGISTERS = st.dictionaries(st.integers(0, 16), _WORD)
_USER = st.builds(UserPart, st.just({}), _WORDS, _runs(), st.integers(0, 9), _WORD, _WORD, _WORD)
_FLAT = st.none() | st.tuples(_ADDRESS, st.just(64), st.sampled_from([b"", bytes(8), b"01234567" * 8]))


@settings(deadline=None)
@given(_REGISTERS, st.lists(_WORD, max_size=9), _runs(), _WORDS, st.none() | _USER, _FLAT, _REGISTERS)
def test_a_record_is_read_as_it_was_written(registers, chain, runs, oracle, user, flat, user_registers):
    flat = flat if user is not None else None
    if user is not None and chain:
        user.registers = user_registers
    record = hit_record(
        registers=registers, chain=chain, runs=runs, oracle=oracle, stop_detail=5, slide=1 << 40, user=user, flat=flat,
        time_ns=7, cpu=1, pid=2, tid=3, probe=70000, stop=4, sequence=9, dropped=8, comm=b"name".ljust(16, b"\0"),
    )  # fmt: skip
    hit = read_hit(memoryview(record))
    sample = hit.sample
    assert (hit.sequence, hit.dropped, hit.comm, hit.unread) == (9, 8, "name", 0)
    assert (sample.time_ns, sample.cpu, sample.pid, sample.tid, sample.places) == (7, 1, 2, 3, (70000,))
    assert sample.kernel_chain == tuple(chain)
    if chain:
        stack = sample.kernel_stack
        assert (stack.stop, stack.stop_detail, stack.slide, stack.oracle) == (4, 5, 1 << 40, tuple(oracle))
        assert stack.registers == tuple(registers.get(number, 0) for number in range(17))
        assert [(each.address, each.data) for each in stack.slices] == _as_bytes(runs)
    assert (sample.user_stack is None) == (user is None)
    if user is not None:
        assert sample.user_stack.chain == tuple(user.chain)
        assert sample.user_stack.registers == tuple(
            (user.registers if chain else registers).get(number, 0) for number in range(17)
        )
        told = (sample.user_stack.stop, sample.user_stack.stop_detail, sample.user_stack.generation)
        assert told == (user.stop, user.stop_detail, user.generation)
        assert sample.user_stack.start_stack == user.start_stack
        flats = [] if flat is None else [(flat[0], flat[2])]
        assert [(each.address, each.data) for each in sample.slices] == _as_bytes(user.runs) + flats
        assert [each.cut for each in sample.slices] == [False] * len(user.runs) + [len(f[1]) == 64 for f in flats]
    twin = read_record(record)
    assert (twin.registers, twin.chain) == (registers, tuple(chain))


def _as_bytes(runs) -> list[tuple[int, bytes]]:
    return [(address, b"".join(word.to_bytes(8, "little") for word in words)) for address, words in runs]


_WHOLE = hit_record(
    registers={1: 5, 16: 0xFFFF_FFFF_8100_0000}, chain=[0xFFFF_FFFF_8100_0000, 0xFFFF_FFFF_8100_0010],
    runs=[(0xFFFF_C900_0000_1000, [1, 2, 3])], flat=(0x7FFD_0000, 8, bytes(8)),
    user=UserPart({7: 0x7FFD_0000}, [0x40_1000], [(0x7FFD_0000, [5, 6])]),
)  # fmt: skip


@settings(max_examples=300)
@given(st.integers(8, len(_WHOLE) - 1), st.integers(0, 255))
def test_damage_is_an_error_or_other_values(place, value):
    damaged = bytearray(_WHOLE)
    damaged[place] = value
    try:
        hit = read_hit(memoryview(damaged))
    except HitRecordError:
        return
    assert len(hit.sample.kernel_chain) <= 9


def test_parts_have_to_fill_the_record():
    for size in range(layout.HIT_SIZE, len(_WHOLE), 8):
        with pytest.raises(HitRecordError):
            read_hit(memoryview(_WHOLE[:size]))
    with pytest.raises(HitRecordError):
        read_hit(memoryview(_WHOLE + bytes(8)))


@pytest.fixture(scope="module")
def library(require_tool, tmp_path_factory) -> ctypes.CDLL:
    """The module's packing as a shared library."""
    require_tool("gcc", "gcc")
    target = tmp_path_factory.mktemp("pack") / "pack.so"
    _compile(["-O2", "-shared", "-fPIC"], target)
    found = ctypes.CDLL(str(target))
    found.ptap_pack_end.restype = ctypes.c_void_p
    return found


def _compile(flags: list[str], target: Path, *sources: Path) -> None:
    command = ["gcc", *_WARNINGS, *flags, f"-I{_RUNTIME / 'core'}", f"-I{_RUNTIME / 'module'}", "-o", str(target)]
    subprocess.run([*command, str(_RUNTIME / "module" / "ptap_pack.c"), *map(str, sources)], check=True)


@settings(deadline=None)
@given(st.lists(_WORDS, max_size=5), st.integers(0, 5))
def test_the_modules_packing_is_the_twins(library, parts, runs):
    """Byte for byte, wherever in a group a part of the words begins and ends."""
    # More than a struct ptap_writer is.
    writer, room = (ctypes.c_uint64 * 2048)(), (ctypes.c_uint32 * 4096)()
    words = [word for part in parts for word in part]
    # What the record before has left does not count.
    library.ptap_pack_begin(writer, room, 0, len(words))
    library.ptap_pack_words(writer, (ctypes.c_uint64 * len(words))(*words[::-1]), len(words))
    library.ptap_pack_begin(writer, room, runs, len(words))
    for part in parts:
        library.ptap_pack_words(writer, (ctypes.c_uint64 * len(part))(*part), len(part))
    end = library.ptap_pack_end(writer)
    assert bytes(room)[4 * runs : end - ctypes.addressof(room)] == packed(words)[0]


@settings(deadline=None, max_examples=12, phases=(Phase.generate,))
@given(st.lists(st.tuples(_runs(), _WORDS), min_size=1, max_size=10))
def test_the_modules_records_are_whole_with_sanitizers(checked_program, records):
    """Runs and words, in memory that is no larger than a record may be: nothing is written beyond it."""
    told = ""
    for runs, words in records:
        told += f"{len(runs)} {len(words)} " + " ".join(f"{word:x}" for word in words) + "\n"
        told += "".join(f"{a:x} {len(w)} " + " ".join(f"{word:x}" for word in w) + "\n" for a, w in runs)
    done = subprocess.run([str(checked_program)], input=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for line, (runs, words) in zip(done.stdout.splitlines(), records, strict=True):
        wanted = hit_record(stop_detail=words[0] if words else 0, slide=words[1] if len(words) > 1 else 0,
                            chain=words[2:], runs=runs)  # fmt: skip
        start = layout.HIT_SIZE
        words_told, highs = (int.from_bytes(wanted[place : place + 2], "little") for place in (76, 78))
        size = 4 * len(runs) + packed_size(words_told, highs)
        assert bytes.fromhex(line) == wanted[start : start + size]


@pytest.fixture(scope="module")
def checked_program(require_tool, tmp_path_factory) -> Path:
    require_tool("gcc", "gcc")
    target = tmp_path_factory.mktemp("pack") / "pack_records"
    _compile(_CHECKED, target, Path(__file__).with_name("pack_records.c"))
    return target


def test_fields_that_tests_ask_by_place():
    assert sys.byteorder == "little" and (layout.HIT_WORD_COUNT, layout.HIT_HIGH_COUNT) == (76, 78)
