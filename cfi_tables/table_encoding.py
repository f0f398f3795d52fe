"""The bytes of a compact table, put together from rows and rules.

Owns the order of a table's parts and its header. Data comes from `table.build_table`; codes are `row_codes`', blocks
`rows`', and the rules' records `rule_record`'s.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables import layout
from cfi_tables.hot_loop import compiled, plain_view
from cfi_tables.row_codes import RowCodes, choose_codes
from cfi_tables.rows import encode_rows
from cfi_tables.rule_record import INVALID, OVERFLOW, Rule, encode_rules
from cfi_tables.table_check import TableError

if TYPE_CHECKING:
    from cfi_tables.elf_image import ElfImage
    from cfi_tables.section_rows import Rows

_BLOCK_ROWS = 20
"""Rows in a block, on average. With more a table is smaller, and half as many more are read in each lookup."""
_SIZE_LIMIT = (1 << 31) - 8
_LARGEST_ADDRESS = 0xFFFFFFFF
"""Of a row, from the rounded text start."""
_COMPILED_ROWS = 50_000
"""Rows from which loading numba pays to code them."""


def encode_table(
    image: ElfImage, rows: Rows, rules: list[Rule], skipped: int, use_compiled: bool | None
) -> NDArray[np.uint8]:
    """The table of rows whose last one is the gap behind all; rule 0 is INVALID. Raises TableError."""
    addresses, ids = rows.addresses, rows.rules
    if use_compiled is None:
        use_compiled = len(addresses) >= _COMPILED_ROWS
    start = end = 0
    if len(addresses):
        start, end = int(addresses[0]), int(addresses[-1])
        if end - (start - start % layout.DELTA_ALIGNMENT) > _LARGEST_ADDRESS:
            raise TableError(
                f"{image.path}: its code is said to lie from {start:#x} to {end:#x}, more than a table holds"
            )
        addresses = addresses - (start - start % layout.DELTA_ALIGNMENT)
    rules, ids = _by_frequency(rules, ids)
    if len(rules) > layout.MAXIMUM_RULES:
        ids = np.minimum(ids, layout.MAXIMUM_RULES - 1)
        rules = rules[: layout.MAXIMUM_RULES - 1] + [OVERFLOW]
    identity = image.build_id or b""
    values: dict[str, Any] = {
        "magic": layout.TABLE_MAGIC, "format_version": layout.FORMAT_VERSION, "machine": image.machine,
        "text_start": start & (1 << 64) - 1, "text_end": end & (1 << 64) - 1,
        "build_id": np.void(identity[:20].ljust(20, b"\0")), "build_id_size": min(len(identity), 20),
        "row_count": max(len(addresses) - 1, 0), "rule_count": len(rules), "skipped_count": skipped,
    }  # fmt: skip
    parts: dict[str, NDArray[Any]] = {}
    if rules:
        gap = rules.index(INVALID) if INVALID in rules else -1
        codes = choose_codes(addresses, ids, len(rules), gap, use_compiled)
        block_bytes, blocks, index = _encode_rows(addresses, ids, codes, use_compiled)
        records, lists, pool = encode_rules(rules)
        for word in range(layout.RULE_SIZE // 4):
            codes.rule_words[codes.records + word] = records[word :: layout.RULE_SIZE // 4]
        values |= {
            "block_count": len(index), "rule_bits": codes.rule_bits, "delta_bits": codes.delta_bits,
            "class_count": codes.class_count, "block_bytes": block_bytes,
            "rules_size": codes.rule_words.nbytes, "lists_size": lists.nbytes,
            "expressions_size": len(pool),
        }  # fmt: skip
        parts = {
            "index_offset": index, "states_offset": codes.states, "rules_offset": codes.rule_words,
            "lists_offset": lists, "deltas_offset": codes.deltas, "blocks_offset": blocks,
            "expressions_offset": np.frombuffer(pool, dtype=np.uint8),
        }  # fmt: skip
    return _assemble(image.path, values, parts)


def _by_frequency(rules: list[Rule], ids: NDArray[np.int64]) -> tuple[list[Rule], NDArray[np.int64]]:
    """Only the rules that rows use, the most frequent first, and the rows' ids for that."""
    counts = np.bincount(ids, minlength=len(rules))
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    mapping = np.zeros(len(rules), dtype=np.int64)
    mapping[order] = np.arange(len(order))
    return [rules[number] for number in order.tolist()], mapping[ids]


def _encode_rows(
    addresses: NDArray[np.int64], ids: NDArray[np.int64], codes: RowCodes, use_compiled: bool
) -> tuple[int, NDArray[np.uint8], NDArray[np.uint32]]:
    """(bytes of a block, blocks with the spare bytes behind them, index)."""
    pairs, tokens, _, pair_lengths, classes, _, token_lengths, extra, _ = codes.row_columns
    bits = pair_lengths[pairs[1:]] + token_lengths[classes[pairs[1:]] * len(extra) + tokens[1:]] + extra[tokens[1:]]
    average = -(-int(bits.sum()) * _BLOCK_ROWS // max(len(bits), 1))
    block_bytes = (codes.rule_bits + average + 7) // 8
    block_bytes = min(max(block_bytes, layout.MINIMUM_BLOCK_BYTES), layout.MAXIMUM_BLOCK_BYTES)
    # What is left free in a block is less than the next row takes, or the block has as many rows as it may.
    room = 8 * block_bytes - codes.rule_bits - int(bits.max(initial=0))
    most = min(2 + int(bits.sum()) // max(room, 1) + len(addresses) // layout.BLOCK_ROWS, len(addresses))
    out = np.zeros(most * block_bytes + layout.BLOCK_SPARE_BYTES, dtype=np.uint8)
    index = np.zeros(most, dtype=np.int64)
    arguments: Any = (addresses, ids, *codes.row_columns, codes.rule_bits, block_bytes, out, index)
    if use_compiled:
        count = compiled(encode_rows)(*arguments)
    else:
        count = encode_rows(*(plain_view(each) if isinstance(each, np.ndarray) else each for each in arguments))
    return block_bytes, out[: count * block_bytes + layout.BLOCK_SPARE_BYTES], index[:count].astype(np.uint32)


def _assemble(name: str, values: dict[str, Any], parts: dict[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """The whole table: a header with `values`, then `parts`, each named by the field that tells its offset."""
    size = layout.HEADER_SIZE
    for field, part in parts.items():
        values[field] = size
        size += part.nbytes + 3 & ~3
    size = size + 7 & ~7
    if size > _SIZE_LIMIT:
        raise TableError(f"{name}: its table would have {size} bytes, more than the format holds")
    header = np.zeros(1, dtype=layout.HEADER_DTYPE)
    for field, value in values.items():
        header[field] = value
    header["table_size"] = size
    data = np.zeros(size, dtype=np.uint8)
    data[: layout.HEADER_SIZE] = header.view(np.uint8)
    for field, part in parts.items():
        data[values[field] : values[field] + part.nbytes] = part.view(np.uint8)
    checksum = zlib.crc32(data.data)
    data[layout.HEADER_CHECKSUM : layout.HEADER_CHECKSUM + 4] = list(checksum.to_bytes(4, "little"))
    data.flags.writeable = False
    return data
