"""What a loader checks once in a table, so that lookups need not: every part and every reference lies inside.

runtime_c/core/ptap_check.c checks the same in C, but for the checksum.

Blocks are not checked: whatever bits they hold, a lookup reads at most BLOCK_ROWS rows, each from one decoding table
that was checked, and BLOCK_SPARE_BYTES behind the last block are enough for the row that begins in it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables import layout
from cfi_tables.architecture import architecture_of
from cfi_tables.distinct_values import distinct_values
from cfi_tables.rows import NEAR_BITS

_RECORD_WORDS = layout.RULE_SIZE // 4
_EXPRESSION_KINDS = (layout.REGISTER_KIND_EXPRESSION, layout.REGISTER_KIND_VAL_EXPRESSION)


class TableError(Exception):
    """A table cannot be built or loaded; the text says why and what to do."""


_Refuse = Callable[[str], TableError]


def checked_header(data: NDArray[np.uint8], name: str, just_made: bool = False) -> Any:
    """The header of a table whose every offset has been checked, so that lookups need not. Raises TableError.

    `just_made`: what is in its parts is right, since this process wrote them; the tests load what it wrote.
    """

    def refuse(what: str) -> TableError:
        return TableError(f"{name}: {what}; delete the file, and the table is built again")

    if len(data) < layout.HEADER_SIZE:
        raise refuse("the table is shorter than its header")
    header = data[: layout.HEADER_SIZE].view(layout.HEADER_DTYPE)[0]
    if int(header["magic"]) != layout.TABLE_MAGIC:
        raise refuse("this is no unwind table")
    if int(header["format_version"]) != layout.FORMAT_VERSION:
        raise refuse(f"the table's format is {header['format_version']}, not {layout.FORMAT_VERSION}")
    if int(header["table_size"]) != len(data) or len(data) % 8:
        raise refuse("the table's size is not what its header says")
    if not just_made and int(header["checksum"]) != _checksum(data):
        raise refuse("the table's checksum does not match")
    architecture = architecture_of(int(header["machine"]))
    if architecture is None:
        raise refuse(f"the table is for ELF machine {int(header['machine'])}, which is not known")
    if int(header["build_id_size"]) > 20:
        raise refuse("the table's counts do not agree")
    if not _is_text_range(int(header["text_start"]), int(header["text_end"])):
        raise refuse("the table's text range is impossible")
    if not just_made and (header["row_count"] or header["rule_count"] or header["block_count"]):
        parts = _parts(data, header, refuse)
        _check_codes(parts, header, refuse)
        _check_rules(parts, len(architecture.register_names), refuse)
    return header


def _checksum(data: NDArray[np.uint8]) -> int:
    """The checksum of a table, which is computed with zero in its own place."""
    begin = data[: layout.HEADER_CHECKSUM].tobytes() + bytes(4)
    return zlib.crc32(data[layout.HEADER_CHECKSUM + 4 :].data, zlib.crc32(begin))


def _is_text_range(start: int, end: int) -> bool:
    """Whether 32 bits from the rounded start reach the end, and both have the same sign as 64-bit numbers."""
    return start <= end <= start - start % layout.DELTA_ALIGNMENT + 0xFFFFFFFF and start >> 63 == end >> 63


def _parts(data: NDArray[np.uint8], header: Any, refuse: _Refuse) -> dict[str, NDArray[Any]]:
    """The table's parts as arrays, each inside of it."""
    rows, rules, blocks = int(header["row_count"]), int(header["rule_count"]), int(header["block_count"])
    bits = int(header["rule_bits"]), int(header["delta_bits"])
    classes, block_bytes = int(header["class_count"]), int(header["block_bytes"])
    if not (
        0 < blocks <= rows + 1 <= blocks * layout.BLOCK_ROWS
        and 0 < rules <= min(rows + 1, layout.MAXIMUM_RULES)
        and 0 < bits[0] <= 16
        and 0 < bits[1] <= 15
        and 0 < classes <= layout.MAXIMUM_CLASSES
        and layout.MINIMUM_BLOCK_BYTES <= block_bytes <= layout.MAXIMUM_BLOCK_BYTES
    ):
        raise refuse("the table's counts do not agree")
    found: dict[str, NDArray[Any]] = {}
    for name, size, kind in (
        ("index", 4 * blocks, "<u4"),
        ("states", 4 * rules, "<u4"),
        ("rules", int(header["rules_size"]), "<u4"),
        ("lists", int(header["lists_size"]), "<u4"),
        ("deltas", 2 * classes << bits[1], "<u2"),
        ("blocks", block_bytes * blocks + layout.BLOCK_SPARE_BYTES, "u1"),
        ("expressions", int(header["expressions_size"]), "u1"),
    ):
        offset = int(header[f"{name}_offset"])
        if offset < layout.HEADER_SIZE or offset + size > len(data) or offset % 4 or size % np.dtype(kind).itemsize:
            raise refuse(f"the table's {name} lie outside of it")
        found[name] = data[offset : offset + size].view(kind)
    index = found["index"].astype(np.int64)
    if (np.diff(index) <= 0).any():
        raise refuse("the table's index is out of order")
    return found


def _check_codes(parts: dict[str, NDArray[Any]], header: Any, refuse: _Refuse) -> None:
    """Every state is a rule's record with its successors behind it, and every successor is a state or an escape."""
    words = parts["rules"]
    states = parts["states"].astype(np.int64)
    records, bits = states >> 12, states >> 8 & 15
    sizes = 1 << bits
    if ((states & 255) != 0).any() or (records == 0).any():
        raise refuse("a rule's state is damaged")
    ends = records + _RECORD_WORDS + sizes
    if (ends > len(words)).any():
        raise refuse("a rule lies outside of the table")
    if (ends[:-1] > records[1:]).any():
        raise refuse("rules overlap or are out of order")
    places = np.repeat(records + _RECORD_WORDS - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
    successors = words[places].astype(np.int64)
    if int(bits.max()) + int(header["delta_bits"]) + layout.DELTA_NEAR_EXTRA > NEAR_BITS:
        raise refuse("a row may take more bits than are read at once")
    if ((successors & 15) > np.repeat(bits, sizes)).any():
        raise refuse("a successor's code is damaged")
    deltas = parts["deltas"]
    far = (deltas >> 4 & 15) > layout.DELTA_NEAR_EXTRA
    if ((deltas & 15) > header["delta_bits"]).any() or (deltas[far] >> 8 != 0).any():
        raise refuse("a delta's code is damaged")
    if ((successors >> 4 & 15) >= int(header["class_count"])).any():
        raise refuse("a successor names a class of deltas that is not there")
    named = successors[successors >> 12 != 0] & ~255
    state_at = np.zeros(len(words), dtype=np.int64)
    state_at[records] = states
    if (named >> 12 >= len(words)).any() or (state_at[named >> 12] != named).any():
        raise refuse("a successor is no rule")


def _check_rules(parts: dict[str, NDArray[Any]], registers: int, refuse: _Refuse) -> None:
    """Every rule record, its register list and the expressions that it names lie inside of their parts."""
    words, lists, pool = parts["rules"], parts["lists"], parts["expressions"]
    records = parts["states"].astype(np.int64) >> 12
    rules = np.stack([words[records], words[records + 1]], axis=1).view(layout.RULE_DTYPE).reshape(-1)
    kinds, heads = rules["cfa_kind"], rules["list"].astype(np.int64)
    if (kinds > layout.CFA_KIND_OVERFLOW).any():
        raise refuse("a rule is of an unknown kind")
    if (heads >= len(lists)).any():
        raise refuse("a register list lies outside of the table")
    heads = distinct_values(heads)
    counts = (lists[heads] & 255).astype(np.int64)
    if (heads + 1 + counts > len(lists)).any():
        raise refuse("a register list lies outside of the table")
    places = np.repeat(heads + 1 - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    entries = lists[places].view("<i4").astype(np.int64)
    entry_kinds, values = entries >> 6 & 7, entries >> 9
    if (entry_kinds > layout.REGISTER_KIND_VAL_EXPRESSION).any():
        raise refuse("a rule is of an unknown kind")
    sources = values[entry_kinds == layout.REGISTER_KIND_IN_REGISTER]
    numbers = np.concatenate([entries & 63, sources, rules["cfa_register"].astype(np.int64)])
    if ((numbers < 0) | (numbers >= registers)).any():
        raise refuse("a rule names a register that no walk has")
    named = np.append(
        values[np.isin(entry_kinds, _EXPRESSION_KINDS)],
        rules["cfa_value"][kinds == layout.CFA_KIND_EXPRESSION].astype(np.int64),
    )
    if ((named < 0) | (named + 2 > len(pool))).any():
        raise refuse("an expression lies outside of the table")
    lengths = pool[named].astype(np.int64) + 256 * pool[named + 1].astype(np.int64)
    if (named + 2 + lengths > len(pool)).any():
        raise refuse("an expression lies outside of the table")
