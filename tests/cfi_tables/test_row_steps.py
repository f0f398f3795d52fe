"""What is counted of rows, against a count by the book, and that neither parts nor short room change a table."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cfi_tables import frame_section, row_steps, section_rows
from cfi_tables.elf_image import ElfImage
from cfi_tables.layout import BLOCK_ROWS, DELTA_ALIGNMENT
from cfi_tables.rows import MARK_MASK, PAIR_SHIFT
from cfi_tables.table import build_table
from cfi_tables.work_memory import WorkMemory

_GAP = 2
_BASE = 5


def _token(delta: int, before: int, address: int) -> int:
    if before == _GAP and delta <= DELTA_ALIGNMENT and (address + _BASE) % DELTA_ALIGNMENT == 0:
        return 0
    return next(
        number
        for number, (base, extra) in enumerate(row_steps.TOKENS)
        if number and base <= delta < base + (1 << extra)
    )


def _rows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose deltas are of every token, and of which none repeats the rule before it."""
    chance = np.random.default_rng(seed)
    deltas = np.minimum(1 + (2 ** chance.uniform(0, 16, count)).astype(np.int64), 1 << 17)
    rules = np.cumsum(chance.integers(1, 12, count)) % 12
    return np.cumsum(deltas).astype(np.int32), rules.astype(np.int32)


@pytest.mark.parametrize("use_compiled", [False, True])
@pytest.mark.parametrize(
    ("part_rows", "room", "lines"), [(10_000, 200, 200), (400, 200, 200), (400, 7, 200), (400, 64, 9)]
)
def test_rows_are_counted_by_the_book(part_rows, room, lines, use_compiled, monkeypatch):
    monkeypatch.setattr(row_steps, "_PART_ROWS", part_rows)
    monkeypatch.setattr(row_steps, "_PAIR_ROOM", room)
    monkeypatch.setattr(row_steps, "PAIR_LIMIT", lines)
    addresses, rules = _rows(1500, seed=part_rows + room)
    found = row_steps.row_steps(addresses, rules, _BASE, _GAP, use_compiled, WorkMemory())

    parts = -(-len(rules) // part_rows)
    bounds = [len(rules) * part // parts for part in range(parts + 1)]
    pairs, tokens, both = Counter(), Counter(), Counter()
    for first, last, part in zip(bounds, bounds[1:], found.parts, strict=False):
        assert (part.first, part.last) == (first, last)
        for row in range(first + 1, min(last + BLOCK_ROWS, len(rules))):
            before = int(rules[row - 1])
            key = before << 32 | int(rules[row])
            delta = int(addresses[row]) - int(addresses[row - 1])
            token = _token(delta, before, int(addresses[row]))
            pairs[key] += 1
            tokens[token] += 1
            both[key, token] += 1
            step = int(part.steps[row - first])
            assert found.pairs[part.pairs[step >> PAIR_SHIFT]] == key
            assert row_steps.MARK_TOKENS[step & MARK_MASK] == token
            if 0 < step & MARK_MASK < row_steps.NEAR:
                assert step & MARK_MASK == delta
    assert found.pairs.tolist() == list(pairs), "pairs are in the order of their first appearance"
    assert found.counts.tolist() == list(pairs.values())
    assert found.token_counts.tolist() == [tokens[token] for token in range(row_steps.TOKEN_COUNT)]
    assert len(tokens) > row_steps.TOKEN_COUNT - 3, "the rows have hardly any of the tokens"
    if lines > len(pairs):
        counted = found.histogram.reshape(-1, row_steps.TOKEN_COUNT)[: len(pairs)]
        assert counted.tolist() == [[both[key, token] for token in range(row_steps.TOKEN_COUNT)] for key in pairs]


@pytest.mark.parametrize("use_compiled", [False, True])
@pytest.mark.parametrize(("cies", "fde_bytes"), [(0, 40), (32, 1 << 30)])
def test_entries_read_in_two_passes_are_the_same(cies, fde_bytes, use_compiled, system_file, monkeypatch):
    image = ElfImage.open(system_file("ls"))
    wanted = build_table(image, use_compiled=use_compiled).data.tobytes()
    passes = []
    run_hot = section_rows.run_hot

    def noted(function, *arguments):
        passes.append(function)
        return run_hot(function, *arguments)

    monkeypatch.setattr(section_rows, "run_hot", noted)
    assert build_table(image, use_compiled=use_compiled).data.tobytes() == wanted
    assert frame_section.scan_cies not in passes
    monkeypatch.setattr(section_rows, "_CIES_AT_FIRST", cies)
    monkeypatch.setattr(section_rows, "_FDE_BYTES", fde_bytes)
    assert build_table(image, use_compiled=use_compiled).data.tobytes() == wanted
    assert frame_section.scan_cies in passes
