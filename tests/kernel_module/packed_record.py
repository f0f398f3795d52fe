"""Records of hits, written and read entry by entry as relay_reader/record_schema.py says in words: a twin of the
module's writer and of the package's reader, which shares nothing with them but the layout of the fixed parts."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from relay_reader import record_layout as layout
from relay_reader import record_schema as schema
from relay_reader.module_capture import MAGIC

Run = tuple[int, Sequence[int]]
"""Address and words."""


class _Words:
    """Packs words: (code, low) of each so far, and the upper halves that are told."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, int]] = []
        self.highs: list[int] = []
        self._codes = {0: 0, 0xFFFF_FFFF: 1}

    def add(self, *words: int) -> None:
        for word in words:
            high, low = divmod(word, 1 << 32)
            if high not in self._codes:
                self.highs.append(high)
                if len(self._codes) < 15:
                    self._codes[high] = len(self._codes)
            self.entries.append((self._codes.get(high, 15), low))

    def content(self) -> bytes:
        content = b""
        for begin in range(0, len(self.entries), 8):
            group = self.entries[begin : begin + 8]
            codes = sum(code << 4 * number for number, (code, _) in enumerate(group))
            content += struct.pack(f"<I{len(group)}I", codes, *(low for _, low in group))
        return content + struct.pack(f"<{len(self.highs)}I", *self.highs)


def packed(words: Sequence[int]) -> tuple[bytes, int]:
    """The words as a record has them, and the number of upper halves that are told."""
    out = _Words()
    out.add(*words)
    return out.content(), len(out.highs)


@dataclass
class UserPart:
    """What a hit has of the user's stack; `known` of `registers` when it is not given."""

    registers: Mapping[int, int] = field(default_factory=dict)
    chain: Sequence[int] = ()
    runs: Sequence[Run] = ()
    stop: int = 0
    stop_detail: int = 0
    generation: int = 0
    start_stack: int = 0
    known: int | None = None


def _known(registers: Mapping[int, int]) -> int:
    return sum(1 << number for number in registers)


def hit_record(
    *,
    registers: Mapping[int, int] | None = None,
    chain: Sequence[int] = (),
    runs: Sequence[Run] = (),
    oracle: Sequence[int] = (),
    stop_detail: int = 0,
    slide: int = 0,
    user: UserPart | None = None,
    flat: tuple[int, int, bytes] | None = None,
    **fields: Any,
) -> bytes:
    """A whole record; `flat` is (address, asked, bytes), `fields` are those of HIT that are not to be what they are."""
    out, told = _Words(), b""

    def add_runs(runs: Sequence[Run], registers: Mapping[int, int]) -> None:
        nonlocal told
        end = registers.get(7, 0) & ~7
        for address, words in runs:
            gap = (address - end) % (1 << 64) // 8
            if gap >= 0xFFFF:
                gap = 0xFFFF
                out.add(address)
            out.add(*words)
            told += struct.pack("<HH", gap, len(words))
            end = address + 8 * len(words)

    registers = registers or {}
    out.add(stop_detail, slide, *(registers[number] for number in sorted(registers)), *chain)
    add_runs(runs, registers)
    out.add(*oracle)
    values: dict[str, Any] = {each.name: 0 for each in schema.HIT.subcons}
    values |= {"magic": layout.RECORD_MAGIC, "version": layout.RECORD_VERSION, "kind": layout.RECORD_KIND_HIT}
    values |= {"comm": bytes(16), "known": _known(registers), "frame_count": len(chain), "run_count": len(runs)}
    values |= {"oracle_count": len(oracle)}
    if user is not None:
        out.add(user.stop_detail, user.generation, user.start_stack)
        out.add(*(user.registers[number] for number in sorted(user.registers)), *user.chain)
        add_runs(user.runs, user.registers if chain else registers)
        values |= {"user_known": _known(user.registers) if user.known is None else user.known, "user_stop": user.stop}
        values |= {"user_frame_count": len(user.chain), "user_run_count": len(user.runs)}
        values["flags"] = layout.HIT_FLAG_USER_STACK | (layout.HIT_FLAG_USER_FLAT if flat is not None else 0)
    content = told + out.content()
    content += bytes(-len(content) % 8)
    if flat is not None:
        content += schema.FLAT.build({"address": flat[0], "asked": flat[1], "copied": len(flat[2])}) + flat[2]
    values |= {"word_count": len(out.entries), "high_count": len(out.highs)}
    values |= {"length": layout.HIT_SIZE + len(content)} | fields
    return bytes(schema.HIT.build(values)) + content


def records_of(capture: Path) -> Iterator[bytes]:
    """All records of a capture file, as it has them. Fails where one does not begin as it has to."""
    content = capture.read_bytes()
    at = content.index(b"\n", len(MAGIC)) + 1
    while at < len(content):
        head = np.frombuffer(content, dtype=layout.RECORD_HEAD_DTYPE, count=1, offset=at)[0]
        assert head["magic"] == layout.RECORD_MAGIC and head["version"] == layout.RECORD_VERSION, at
        assert layout.RECORD_HEAD_SIZE <= head["length"] <= len(content) - at, at
        yield content[at : at + int(head["length"])]
        at += int(head["length"])


def unpacked(content: bytes, count: int, highs: int) -> tuple[list[int], int]:
    """The `count` words with so many halves that are told, and the bytes that they take."""
    size = 4 * (count + (count + 7) // 8)
    told = [0, 0xFFFF_FFFF, *struct.unpack_from(f"<{highs}I", content, size)]
    others = iter(told[15:])
    words, at = [], 0
    for number in range(count):
        if number % 8 == 0:
            (codes,) = struct.unpack_from("<I", content, at)
            at += 4
        code = codes >> 4 * (number % 8) & 15
        (low,) = struct.unpack_from("<I", content, at)
        at += 4
        words.append((next(others) if code == 15 else told[code]) << 32 | low)
    return words, size + 4 * highs


@dataclass(frozen=True)
class ReadHit:
    """What a test asks of a record of the kernel's stack."""

    head: Any
    registers: dict[int, int]
    chain: tuple[int, ...]
    words: dict[int, int]
    """Address -> value, of the kernel's runs."""


def read_record(content: bytes) -> ReadHit:
    """The HIT record that `content` is. Fails for one that does not hold together."""
    head = np.frombuffer(content, dtype=layout.HIT_DTYPE, count=1)[0]
    end = len(content)
    told = [int(head["run_count"]), int(head["user_run_count"])]
    runs = list(struct.iter_unpack("<HH", content[layout.HIT_SIZE : layout.HIT_SIZE + 4 * sum(told)]))
    place = layout.HIT_SIZE + 4 * len(runs)
    words, size = unpacked(content[place:end], int(head["word_count"]), int(head["high_count"]))
    place += size
    place += -place % 8
    rest = iter(words[2:])
    registers = {number: next(rest) for number in range(17) if int(head["known"]) >> number & 1}
    chain = tuple(next(rest) for _ in range(int(head["frame_count"])))
    found: dict[int, int] = {}
    run_end = registers.get(7, 0) & ~7
    for gap, count in runs[: told[0]]:
        address = next(rest) if gap == 0xFFFF else run_end + 8 * gap
        found |= {address + 8 * number: next(rest) for number in range(count)}
        run_end = address + 8 * count
    left = sum(1 for _ in rest) - int(head["oracle_count"])
    if head["flags"] & layout.HIT_FLAG_USER_STACK:
        of_user = int(head["user_known"]).bit_count() if chain else 0
        left -= 3 + of_user + int(head["user_frame_count"])
        left -= sum(count + (gap == 0xFFFF) for gap, count in runs[told[0] :])
    assert left == 0 and head["unread"] == 0
    if head["flags"] & layout.HIT_FLAG_USER_FLAT:
        flat = np.frombuffer(content, dtype=layout.FLAT_DTYPE, count=1, offset=place)[0]
        place += layout.FLAT_SIZE + int(flat["copied"])
    assert place == end
    return ReadHit(head, registers, chain, found)
