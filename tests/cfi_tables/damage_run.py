"""Damaged sections decoded and made tables by the compiled builder, each checked, in a process of its own.

    damage_run.py SEED COUNT FILE...

What must hold of each: every FDE has rows or is told as left out, with its section, its offset and a reason; rows are
no more than the bytes could say; and the table made of many of them passes its check and gives, at the ends of every
row, the rule of the row. Of some, what the plain form and the interpreter of the standards say is compared as well.
Run with NUMBA_BOUNDSCHECK=1. Prints counts as JSON.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
from cfi_writer.elf_writer import write_elf
from damaged_sections import Piece, damage, pieces, setting_of
from oracles.call_frame_interpreter import Fde, entries, read_section
from rule_meaning import meaning_at, meaning_in_table

from cfi_tables import layout, rule_pool
from cfi_tables.elf_image import ElfImage
from cfi_tables.hot_loop import compiled
from cfi_tables.lookup import find_rule
from cfi_tables.pooled_rules import PooledRules
from cfi_tables.rule_record import INVALID, Rule, encode_rules
from cfi_tables.section_rows import FrameProblemAt, FrameSection, Rows, decode_section
from cfi_tables.table import CompactTable
from cfi_tables.table_encoding import encode_table

_BATCH = 64
_COMPARED_EVERY = 50


def check_records(rules: PooledRules) -> None:
    """The records of plain rules are those that the way by values writes, in another order than theirs as well."""
    if rules.are_plain:
        assert len(set(rules.values)) == len(rules)
        order = np.arange(len(rules))[::-1].copy()
        for found, wanted in zip(rules.encode(order), encode_rules(rules.values[::-1]), strict=True):
            assert bytes(found) == bytes(wanted)


class Batch:
    """Sections of one architecture, whose rows make one table: each has its own range of addresses."""

    def __init__(self, piece: Piece) -> None:
        where = piece.section.architecture
        self.architecture = where
        self._image = ElfImage.from_bytes(write_elf(where.machine, [], where.address_size == 8), "damaged")
        self._numbers: dict[Rule, int] = {INVALID: rule_pool.RULE_INVALID}
        self._addresses: list[np.ndarray] = []
        self._rules: list[np.ndarray] = []
        self._expected: list[tuple[list[Fde], int]] = []
        self._next = 0
        self.count = 0

    def add(self, piece: Piece, rows: Rows, rules: Sequence[Rule], compared: list[Fde] | None) -> None:
        """`compared`: the FDEs as the interpreter reads them, where they are to be compared."""
        low, high = piece.code
        shift = self._next - low // 16 * 16
        self._next += high - low // 16 * 16 + 16 & ~15
        numbers = [self._numbers.setdefault(rule, len(self._numbers)) for rule in rules]
        self._addresses.append(rows.addresses + shift)
        self._rules.append(np.array(numbers, dtype=np.int64)[rows.rules])
        if compared is not None:
            self._expected.append((compared, shift))
        self.count += 1

    def check(self) -> int:
        """Make the table and look up in it; gives how many rows it has."""
        addresses, ids = np.concatenate(self._addresses), np.concatenate(self._rules)
        rules = list(self._numbers)
        data = encode_table(self._image, Rows(addresses, ids), rules, 0, True)
        table = CompactTable(data, "damaged")  # which checks it
        assert table.row_count == max(len(addresses) - 1, 0)
        if not len(addresses):
            return 0
        found_addresses, records = table.row_columns()
        assert (found_addresses + table.text_range[0] == addresses[:-1]).all()
        find = compiled(find_rule)
        meanings: dict[int, int] = {}
        for address, behind, rule, record in zip(
            addresses[:-1].tolist(), addresses[1:].tolist(), ids[:-1].tolist(), records.tolist(), strict=True
        ):
            assert meanings.setdefault(rule, record) == record
            kind = int(data[record])
            assert (kind == layout.CFA_KIND_INVALID) == (rule == rule_pool.RULE_INVALID)
            wanted = -1 if kind == layout.CFA_KIND_INVALID else record
            assert find(data, 0, address) == wanted and find(data, 0, behind - 1) == wanted, hex(address)
        self._compare(memoryview(data))
        return table.row_count

    def _compare(self, view: memoryview) -> None:
        find = compiled(find_rule)
        data = np.frombuffer(view, dtype=np.uint8)
        for fdes, shift in self._expected:
            places = {place for fde in fdes for place in (fde.start, fde.end, *(address for address, _ in fde.rows))}
            for pc in sorted({place + side for place in places for side in (-1, 0, 1)}):
                wanted = meaning_at(fdes, pc, self.architecture)
                found = meaning_in_table(view, find(data, 0, pc + shift), self.architecture)
                assert found == wanted, (hex(pc), found, wanted, fdes)


def check_problems(section: FrameSection, rows: Rows, problems: list[FrameProblemAt]) -> Counter[str]:
    """Every FDE has rows or a problem; counts of both."""
    data = section.data.tobytes()
    listed = {offset: kind for offset, kind, *_ in entries(data, section.name == ".eh_frame") if kind != "cie"}
    told = Counter(problem.offset for problem in problems)
    assert set(told) <= set(listed), "a problem at no FDE"
    assert all(count == 1 for count in told.values()), "an FDE told twice"
    assert all(kind == "fde" or offset in told for offset, kind in listed.items()), "a cut entry not told"
    assert all(problem.section == section.name and problem.reason for problem in problems)
    good = len(listed) - len(told)
    assert len(rows.addresses) <= len(data) and (len(rows.addresses) > 0) <= (good > 0)
    low, high = section.ranges[0]
    assert len(rows.addresses) == 0 or (low <= rows.addresses[0] and rows.addresses[-1] <= high)
    assert (np.diff(rows.addresses) > 0).all()
    return Counter(good=good, **Counter(problem.reason.name for problem in problems))


def interpreted(section: FrameSection, problems: list[FrameProblemAt]) -> list[Fde]:
    """The FDEs that the interpreter finds sound, which are those that are not left out."""
    reading = read_section(section.data.tobytes(), setting_of(section))
    low, high = section.ranges[0]
    alive = [fde for fde in reading.fdes if low <= fde.start < high and fde.end <= high]
    dead = {problem.offset for problem in problems if problem.reason is layout.FrameProblem.DEAD}
    damaged = {problem.offset for problem in problems} - dead
    # A dead FDE's program is not run, so it is not known whether it is damaged too.
    assert damaged == set(reading.damaged) - dead, (damaged, reading.damaged)
    assert {fde.offset for fde in reading.fdes} - {fde.offset for fde in alive} <= dead
    return alive


def run(seed: int, count: int, paths: list[str]) -> dict[str, int]:
    """Damage pieces of the files `count` times in all."""
    source = random.Random(seed)
    chosen = pieces(paths)
    total: Counter[str] = Counter()
    batches: dict[str, Batch] = {}
    for number in range(count):
        piece = chosen[source.randrange(len(chosen))]
        data = damage(source, piece.section.data.tobytes())
        try:
            section = piece.damaged(data)
            rows, rules, problems = decode_section(section, True)
            total += check_problems(section, rows, problems)
            check_records(rules)
            compared = None
            if number % _COMPARED_EVERY == 0:
                plain_rows, plain_rules, plain_problems = decode_section(section, False)
                assert plain_rules.values == rules.values and plain_problems == problems
                assert (plain_rows.addresses == rows.addresses).all() and (plain_rows.rules == rows.rules).all()
                compared = interpreted(section, problems)
                total["compared"] += 1
            if section.architecture.name not in batches:
                batches[section.architecture.name] = Batch(piece)
            batch = batches[section.architecture.name]
            batch.add(piece, rows, rules, compared)
            if batch.count == _BATCH:
                total["rows"] += batches.pop(section.architecture.name).check()
        except BaseException:
            print(f"{piece.path}, code {piece.code}, seed {seed}, number {number}: {data.hex()}", file=sys.stderr)
            raise
    for batch in batches.values():
        total["rows"] += batch.check()
    return {"count": count, "pieces": len(chosen), **total}


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])))
