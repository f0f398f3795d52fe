"""The bytes of a compact table, put together from rows and rules.

Owns the order of a table's parts and its header. Data comes from `table.build_table`; codes are `row_codes`', blocks
`rows`', and the rules' records `rule_record`'s.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables import layout, rule_pool
from cfi_tables.hot_loop import FlatArray, compiled_pays, hot_loop, run_hot
from cfi_tables.orc import has_orc
from cfi_tables.pooled_rules import PooledRules
from cfi_tables.row_codes import RowCodes, choose_codes
from cfi_tables.row_steps import RowPart, RowSteps, row_steps
from cfi_tables.rows import encode_rows
from cfi_tables.rule_record import INVALID, OVERFLOW, EncodedRules, Rule, encode_rules
from cfi_tables.scalars import item, put_item
from cfi_tables.table_check import TableError
from cfi_tables.work_memory import WorkMemory
from cfi_tables.worker_threads import run_parts

if TYPE_CHECKING:
    from cfi_tables.elf_image import ElfImage
    from cfi_tables.section_rows import Rows

_BLOCK_ROWS = 20
"""Rows in a block, on average. With more a table is smaller, and half as many more are read in each lookup."""
_KERNEL_BLOCK_ROWS = 3
"""In tables of the kernel and its modules: there are few of them, and probes look up in them. With ten that of Debian's
6.1 has 0.43 MB instead of 0.64, and a lookup takes 670 instructions instead of 390; with two 0.79 MB and 330."""
_SIZE_LIMIT = (1 << 31) - 8
_INTERPRETED_RATE = 350_000
"""Rows that the plain form codes in a second, measured."""


def encode_table(
    image: ElfImage,
    rows: Rows,
    rules: Sequence[Rule],
    skipped: int,
    use_compiled: bool | None,
    memory: WorkMemory | None = None,
) -> NDArray[np.uint8]:
    """The table of rows whose last one is the gap behind all; rule 0 is INVALID. Raises TableError.

    It does not lie in `memory`, which is what is used to make it.
    """
    memory = memory or WorkMemory()
    try:
        rows = rows.packed()
    except OverflowError:
        raise TableError(
            f"{image.path}: its code is said to lie from {rows.addresses[0]:#x} to {rows.addresses[-1]:#x}; a table is "
            "built for less than 2 GiB. Its .eh_frame and .debug_frame may not belong together"
        ) from None
    if use_compiled is None:
        use_compiled = compiled_pays(encode_rows, len(rows.rules) / _INTERPRETED_RATE)
    start = end = base = 0
    if len(rows.rules):
        start, end = rows.base + int(rows.relative[0]), rows.base + int(rows.relative[-1])
        base = start - start % layout.DELTA_ALIGNMENT - rows.base
    identity = image.build_id or b""
    values: dict[str, Any] = {
        "magic": layout.TABLE_MAGIC, "format_version": layout.FORMAT_VERSION, "machine": image.machine,
        "text_start": start & (1 << 64) - 1, "text_end": end & (1 << 64) - 1,
        "build_id": np.void(identity[:20].ljust(20, b"\0")), "build_id_size": min(len(identity), 20),
        "row_count": max(len(rows.rules) - 1, 0), "skipped_count": skipped,
    }  # fmt: skip
    parts: dict[str, Sequence[NDArray[Any]]] = {}
    if len(rows.rules):
        if isinstance(rules, PooledRules):
            gap = rule_pool.RULE_INVALID
        else:
            gap = rules.index(INVALID) if INVALID in rules else -1
        steps = row_steps(rows.relative, rows.rules, rows.base % layout.DELTA_ALIGNMENT, gap, use_compiled, memory)
        firsts = rows.rules[[part.first for part in steps.parts]]
        order, numbers = _by_frequency(len(rules), steps, firsts, use_compiled)
        rule_count = min(len(order), layout.MAXIMUM_RULES)
        contexts, nexts = np.empty((2, len(steps.pairs)), dtype=np.int64)
        run_hot(number_pairs, use_compiled, steps.pairs, numbers, contexts, nexts)
        # Codes are chosen by one thread, for which the others would wait.
        tasks: list[Callable[[], Any]] = [
            partial(choose_codes, steps, contexts, nexts, rule_count, use_compiled),
            partial(_encode_rules, rules, order),
        ]
        codes, (records, lists, pool) = run_parts(tasks, use_compiled and len(steps.parts) > 1)
        block_rows = _KERNEL_BLOCK_ROWS if has_orc(image) else _BLOCK_ROWS
        block_bytes, blocks, index = _encode_rows(rows, base, block_rows, numbers, steps, codes, use_compiled, memory)
        values["rule_count"] = rule_count
        for word in range(layout.RULE_SIZE // 4):
            codes.rule_words[codes.records + word] = records[word :: layout.RULE_SIZE // 4]
        values |= {
            "block_count": len(index), "rule_bits": codes.rule_bits, "delta_bits": codes.delta_bits,
            "class_count": codes.class_count, "block_bytes": block_bytes,
            "rules_size": codes.rule_words.nbytes, "lists_size": lists.nbytes,
            "expressions_size": len(pool),
        }  # fmt: skip
        parts = {
            "index_offset": [index], "states_offset": [codes.states], "rules_offset": [codes.rule_words],
            "lists_offset": [lists], "deltas_offset": [codes.deltas], "blocks_offset": blocks,
            "expressions_offset": [np.frombuffer(pool, dtype=np.uint8)],
        }  # fmt: skip
    return _assemble(image.path, values, parts)


@hot_loop
def count_rules(pairs: FlatArray, pair_counts: FlatArray, counts: FlatArray) -> None:
    """Add up how often each rule follows another."""
    for pair in range(len(pairs)):
        rule = item(pairs, pair) & 0xFFFFFFFF
        counts[rule] = item(counts, rule) + item(pair_counts, pair)


@hot_loop
def number_pairs(pairs: FlatArray, numbers: FlatArray, contexts: FlatArray, nexts: FlatArray) -> None:
    """The rules of each pair by their `numbers`."""
    for pair in range(len(pairs)):
        put_item(contexts, pair, item(numbers, item(pairs, pair) >> 32))
        put_item(nexts, pair, item(numbers, item(pairs, pair) & 0xFFFFFFFF))


def _by_frequency(
    rule_count: int, steps: RowSteps, firsts: NDArray[np.int64], use_compiled: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Only the rules that rows use, the most frequent first, and the number of each rule among those.

    `firsts` are those of the first rows of parts. What is beyond the format's limit has the number of the last one.
    """
    counts = np.bincount(firsts, None, rule_count)
    run_hot(count_rules, use_compiled, steps.pairs, steps.counts, counts)
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    numbers = np.zeros(rule_count, dtype=np.int64)
    numbers[order] = np.minimum(np.arange(len(order)), layout.MAXIMUM_RULES - 1)
    return order, numbers


def _encode_rules(rules: Sequence[Rule], order: NDArray[np.int64]) -> EncodedRules:
    """The records of the rules in `order`. What is beyond the format's limit becomes OVERFLOW."""
    if isinstance(rules, PooledRules) and len(order) <= layout.MAXIMUM_RULES:
        return rules.encode(order)
    chosen = [rules[number] for number in order[: layout.MAXIMUM_RULES].tolist()]
    if len(order) > layout.MAXIMUM_RULES:
        chosen[-1] = OVERFLOW
    return encode_rules(chosen)


def _encode_rows(
    rows: Rows,
    base: int,
    block_rows: int,
    numbers: NDArray[np.int64],
    steps: RowSteps,
    codes: RowCodes,
    use_compiled: bool,
    memory: WorkMemory,
) -> tuple[int, list[NDArray[np.uint8]], NDArray[np.uint32]]:
    """(bytes of a block, blocks with the spare bytes behind them, index). The blocks lie in `memory`."""
    count = len(rows.rules)
    average = -(-codes.bits * block_rows // max(count - 1, 1))
    block_bytes = (codes.rule_bits + average + 7) // 8
    block_bytes = min(max(block_bytes, layout.MINIMUM_BLOCK_BYTES), layout.MAXIMUM_BLOCK_BYTES)
    # What is left free in a block is less than the next row takes, or the block has as many rows as it may.
    room = 8 * block_bytes - codes.rule_bits - codes.longest
    parts = run_parts(
        [
            partial(_encode_part, rows, part, base, numbers, codes, block_bytes, room, use_compiled, memory)
            for part in steps.parts
        ],
        use_compiled,
    )
    blocks, indices = zip(*parts, strict=True)
    spare = np.zeros(layout.BLOCK_SPARE_BYTES, dtype=np.uint8)
    return block_bytes, [*blocks, spare], np.concatenate(indices).astype(np.uint32)


def _encode_part(
    rows: Rows,
    part: RowPart,
    base: int,
    numbers: NDArray[np.int64],
    codes: RowCodes,
    block_bytes: int,
    room: int,
    use_compiled: bool,
    memory: WorkMemory,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(blocks, index) of a part; blocks but the last, and those with as many rows as they may, have `room` bits."""
    row_count = part.last - part.first
    most = min(2 + codes.bits // max(room, 1) + row_count // layout.BLOCK_ROWS, row_count)
    out = memory.take(most * block_bytes + layout.MAXIMUM_BLOCK_BYTES, np.uint8, cleared=False)
    index = memory.take(most, np.int64, cleared=False)
    count = run_hot(
        encode_rows, use_compiled, rows.relative[part.first : part.end], rows.rules[part.first : part.end],
        part.steps, row_count, base, numbers, codes.pair_words[part.pairs], codes.mark_words,
        codes.rule_bits, block_bytes, out, index,
    )  # fmt: skip
    return out[: count * block_bytes], index[:count]


def _assemble(name: str, values: dict[str, Any], parts: dict[str, Sequence[NDArray[Any]]]) -> NDArray[np.uint8]:
    """The whole table: a header with `values`, then `parts`, each of arrays behind one another and named by the field
    that tells its offset.
    """
    size = layout.HEADER_SIZE
    for field, arrays in parts.items():
        values[field] = size
        size += sum(each.nbytes for each in arrays) + 3 & ~3
    size = size + 7 & ~7
    if size > _SIZE_LIMIT:
        raise TableError(f"{name}: its table would have {size} bytes, more than the format holds")
    header = np.zeros(1, dtype=layout.HEADER_DTYPE)
    for field, value in values.items():
        header[field] = value
    header["table_size"] = size
    data = np.zeros(size, dtype=np.uint8)
    data[: layout.HEADER_SIZE] = header.view(np.uint8)
    for field, arrays in parts.items():
        place = values[field]
        for each in arrays:
            data[place : place + each.nbytes] = each.view(np.uint8)
            place += each.nbytes
    checksum = zlib.crc32(data.data)
    data[layout.HEADER_CHECKSUM : layout.HEADER_CHECKSUM + 4] = list(checksum.to_bytes(4, "little"))
    data.flags.writeable = False
    return data
