"""The compact unwind table of one module: built from its CFI, saved, loaded and checked.

Owns the table as a value. Data comes from an `ElfImage` (and its debug file) or from a saved table; the walk gets
`data` to put in its arena, and looks rules up by `lookup.find_rule`.
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables import layout
from cfi_tables.architecture import architecture_of
from cfi_tables.hot_loop import compiled, plain_view
from cfi_tables.rows import MAXIMUM_ROW_BYTES, decode_rows, encode_rows

if TYPE_CHECKING:
    from cfi_tables.elf_image import ElfImage
    from cfi_tables.rule_record import Rule
    from cfi_tables.section_rows import FrameProblemAt, Rows

_SIZE_LIMIT = (1 << 31) - 8
_COMPILED_ROWS = 200_000
"""Rows from which loading numba pays to code or decode them."""


class TableError(Exception):
    """A table cannot be built or loaded; the text says why and what to do."""


class CompactTable:
    """One module's unwind table. Rules hold at file virtual addresses."""

    def __init__(self, data: NDArray[np.uint8], name: str) -> None:
        """Take `data` (a whole table) after checking all of its bounds. Raises TableError."""
        self.data = data
        """The whole table."""
        self.name = name
        self.skipped: list[FrameProblemAt] = []
        """FDEs that were left out; of a loaded table only `skipped_count` is known."""
        header = _checked_header(data, name)
        self.machine = int(header["machine"])
        size = int(header["build_id_size"])
        self.build_id: bytes | None = bytes(header["build_id"])[:size] if size else None
        """The module's build-id (its first 20 bytes), None when it has none."""
        self.text_range = (int(header["text_start"]), int(header["text_end"]))
        """First address with a rule, first one behind them all; equal when there are no rows."""
        self.row_count = int(header["row_count"])
        self.rule_count = int(header["rule_count"])
        self.skipped_count = int(header["skipped_count"])

    def rows(self) -> Iterator[tuple[int, int]]:
        """(address, offset of the rule record in `data`) of every row in order; gaps are rows of INVALID rules.

        A row holds up to the next one's address, the last one up to `text_range[1]`.
        """
        addresses, offsets = self.row_columns()
        start = self.text_range[0]
        for address, offset in zip(addresses.tolist(), offsets.tolist(), strict=True):
            yield start + address, offset

    def row_columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(address from the text start, offset of the rule record in `data`) of every row. Raises TableError."""
        addresses = np.empty(self.row_count, dtype=np.int64)
        rules = np.empty(self.row_count, dtype=np.int64)
        if self.row_count >= _COMPILED_ROWS:
            count = compiled(decode_rows)(self.data, 0, addresses, rules)
        else:
            count = decode_rows(plain_view(self.data), 0, plain_view(addresses), plain_view(rules))
        if count != self.row_count or (count and int(rules.max()) >= self.rule_count):
            raise TableError(f"{self.name}: the table's rows are damaged; delete the file")
        offset = int(self.data[: layout.HEADER_SIZE].view(layout.HEADER_DTYPE)[0]["rule_offsets_offset"])
        offsets = self.data[offset : offset + 4 * self.rule_count].view("<u4")
        return addresses, offsets.astype(np.int64)[rules]

    def save(self, path: str | Path) -> None:
        """Write the table to `path`: whole or not at all. Raises OSError."""
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            with open(temporary, "xb") as file:
                file.write(self.data.tobytes())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | Path) -> CompactTable:
        """Map the table at `path`. Raises TableError when it is damaged or of another format, and OSError."""
        with open(path, "rb") as file:
            try:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:
                raise TableError(f"{path}: the table is empty; delete it, and it is built again") from None
        return cls(np.frombuffer(data, dtype=np.uint8), str(path))


def build_table(image: ElfImage, debug: ElfImage | None = None, use_compiled: bool | None = None) -> CompactTable:
    """Compile the CFI of `image` into a table.

    `cfi_sources` tells which source of CFI holds where, `relocation` at which addresses the sections of a relocatable
    object count as lying. FDEs that are damaged are in `skipped`. `use_compiled` None chooses the form of the hot
    loops by size. Raises TableError for a machine that is not supported, and ElfError for a damaged file. An image
    without CFI gives a table without rows.
    """
    from cfi_tables.cfi_sources import UnsupportedImage, decode_image

    try:
        merged, rules, skipped = decode_image(image, debug, use_compiled)
    except UnsupportedImage as error:
        raise TableError(str(error)) from None
    data = _encode(image, merged, rules, len(skipped), use_compiled)
    table = CompactTable(data, image.path)
    table.skipped = skipped
    return table


def _by_frequency(rules: list[Rule], ids: NDArray[np.int64]) -> tuple[list[Rule], NDArray[np.int64]]:
    """Only the rules that rows use, the most frequent first, and the rows' ids for that."""
    counts = np.bincount(ids, minlength=len(rules))
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    mapping = np.zeros(len(rules), dtype=np.int64)
    mapping[order] = np.arange(len(order))
    return [rules[number] for number in order.tolist()], mapping[ids]


def _encode(
    image: ElfImage, rows: Rows, rules: list[Rule], skipped: int, use_compiled: bool | None
) -> NDArray[np.uint8]:
    """The bytes of a table."""
    from cfi_tables.rule_record import OVERFLOW, encode_rules

    start = end = 0
    addresses, ids = rows.addresses, rows.rules
    if len(addresses):
        start, end = int(addresses[0]), int(addresses[-1])  # the last row is the gap behind all
        addresses, ids = addresses[:-1] - start, ids[:-1]
    rules, ids = _by_frequency(rules, ids)
    if len(rules) > layout.MAXIMUM_RULES:
        ids = np.minimum(ids, layout.MAXIMUM_RULES - 1)
        rules = rules[: layout.MAXIMUM_RULES - 1] + [OVERFLOW]
    stream, index = _encode_rows(addresses, ids, use_compiled)
    index_offset = layout.HEADER_SIZE
    offsets_offset = index_offset + index.nbytes
    rows_offset = offsets_offset + 4 * len(rules)
    records_offset = _aligned(rows_offset + len(stream) + MAXIMUM_ROW_BYTES)
    records, pool, offsets = encode_rules(rules, records_offset)
    pool_offset = records_offset + len(records)
    size = _aligned(pool_offset + len(pool))
    if size > _SIZE_LIMIT:
        raise TableError(f"{image.path}: its table would have {size} bytes, more than the format holds")
    header = np.zeros(1, dtype=layout.HEADER_DTYPE)
    identity = image.build_id or b""
    values: dict[str, Any] = {
        "magic": layout.TABLE_MAGIC, "format_version": layout.FORMAT_VERSION, "machine": image.machine,
        "table_size": size, "text_start": start & (1 << 64) - 1, "text_end": end & (1 << 64) - 1,
        "build_id": np.void(identity[:20].ljust(20, b"\0")), "build_id_size": min(len(identity), 20),
        "row_count": len(addresses), "rule_count": len(rules), "block_count": len(index) // 2,
        "index_offset": index_offset, "rule_offsets_offset": offsets_offset, "rows_offset": rows_offset,
        "rows_size": len(stream), "records_offset": records_offset, "records_size": len(records),
        "expressions_offset": pool_offset, "expressions_size": len(pool), "skipped_count": skipped,
    }  # fmt: skip
    for name, value in values.items():
        header[name] = value
    data = bytearray(size)
    for place, part in (
        (0, header), (index_offset, index), (offsets_offset, offsets), (rows_offset, stream),
        (records_offset, records), (pool_offset, pool),
    ):  # fmt: skip
        content = part if isinstance(part, bytes) else part.tobytes()
        data[place : place + len(content)] = content
    data[layout.HEADER_CHECKSUM : layout.HEADER_CHECKSUM + 4] = zlib.crc32(data).to_bytes(4, "little")
    return np.frombuffer(bytes(data), dtype=np.uint8)


def _encode_rows(
    addresses: NDArray[np.int64], ids: NDArray[np.int64], use_compiled: bool | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    blocks = -(-len(addresses) // layout.BLOCK_ROWS)
    out = np.empty(MAXIMUM_ROW_BYTES * (len(addresses) + 1), dtype=np.uint8)
    index = np.zeros(2 * blocks, dtype=np.int64)
    addresses, ids = np.ascontiguousarray(addresses), np.ascontiguousarray(ids)
    if use_compiled or (use_compiled is None and len(addresses) >= _COMPILED_ROWS):
        size = compiled(encode_rows)(addresses, ids, out, index)
    else:
        size = encode_rows(plain_view(addresses), plain_view(ids), plain_view(out), plain_view(index))
    return out[:size], index.astype(np.uint32)


def _aligned(size: int) -> int:
    return size + 7 & ~7


def _checked_header(data: NDArray[np.uint8], name: str) -> Any:
    """The header of a table whose every offset has been checked, so that lookups need not. Raises TableError."""

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
    checksum = zlib.crc32(data[layout.HEADER_CHECKSUM + 4 :].tobytes(), zlib.crc32(_zeroed(data)))
    if int(header["checksum"]) != checksum:
        raise refuse("the table's checksum does not match")
    _check_parts(data, header, refuse)
    architecture = architecture_of(int(header["machine"]))
    if architecture is None:
        raise refuse(f"the table is for ELF machine {int(header['machine'])}, which is not known")
    _check_rules(data, header, len(architecture.register_names), refuse)
    return header


def _zeroed(data: NDArray[np.uint8]) -> bytes:
    """The header's begin, as the checksum sees it."""
    return data[: layout.HEADER_CHECKSUM].tobytes() + bytes(4)


def _check_parts(data: NDArray[np.uint8], header: Any, refuse: Any) -> None:
    rows, blocks = int(header["row_count"]), int(header["block_count"])
    parts = (
        ("index", "index_offset", layout.INDEX_ENTRY_SIZE * blocks, 4),
        ("rule offsets", "rule_offsets_offset", 4 * int(header["rule_count"]), 4),
        ("rows", "rows_offset", int(header["rows_size"]) + MAXIMUM_ROW_BYTES, 1),
        ("rule records", "records_offset", int(header["records_size"]), 4),
        ("expressions", "expressions_offset", int(header["expressions_size"]), 2),
    )
    for what, field, size, alignment in parts:
        offset = int(header[field])
        if offset < layout.HEADER_SIZE or offset + size > len(data) or offset % alignment:
            raise refuse(f"the table's {what} lie outside of it")
    if blocks != -(-rows // layout.BLOCK_ROWS) or int(header["build_id_size"]) > 20:
        raise refuse("the table's counts do not agree")
    offset = int(header["index_offset"])
    index = data[offset : offset + layout.INDEX_ENTRY_SIZE * blocks].view("<u4").reshape(-1, 2)
    if blocks and (
        (np.diff(index[:, 0].astype(np.int64)) <= 0).any()
        or (np.diff(index[:, 1].astype(np.int64)) <= 0).any()
        or int(index[-1, 1]) >= int(header["rows_size"])
    ):
        raise refuse("the table's index is out of order")


def _check_rules(data: NDArray[np.uint8], header: Any, registers: int, refuse: Any) -> None:
    """Every rule record, its entries and the expressions it names lie inside of their areas."""
    start, size = int(header["records_offset"]), int(header["records_size"])
    pool, pool_size = int(header["expressions_offset"]), int(header["expressions_size"])
    offset = int(header["rule_offsets_offset"])
    places = data[offset : offset + 4 * int(header["rule_count"])].view("<u4").astype(np.int64)
    if not len(places):
        return
    if ((places < start) | (places % 4 != 0) | (places + layout.RULE_SIZE > start + size)).any():
        raise refuse("a rule record lies outside of the table")
    counts = data[places + layout.RULE_COUNT].astype(np.int64)
    if (places + layout.RULE_SIZE + counts * layout.RULE_ENTRY_SIZE > start + size).any():
        raise refuse("a rule's entries lie outside of the table")
    words = data[start : start + size].view("<i4")
    row = np.repeat(places - start + layout.RULE_SIZE, counts)
    within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    entries = row + within * layout.RULE_ENTRY_SIZE
    kinds = data[start + entries + layout.RULE_ENTRY_KIND]
    if (kinds > layout.REGISTER_KIND_VAL_EXPRESSION).any() or (
        data[places + layout.RULE_CFA_KIND] > layout.CFA_KIND_OVERFLOW
    ).any():
        raise refuse("a rule is of an unknown kind")
    in_register = words[(entries[kinds == layout.REGISTER_KIND_IN_REGISTER] + layout.RULE_ENTRY_VALUE) // 4].astype(
        np.int64
    )
    numbers = data[start + entries + layout.RULE_ENTRY_REGISTER_NUMBER].astype(np.int64)
    numbers = np.concatenate([numbers, in_register, data[places + layout.RULE_CFA_REGISTER].astype(np.int64)])
    if ((numbers < 0) | (numbers >= registers)).any():
        raise refuse("a rule names a register that no walk has")
    named = words[(entries[kinds >= layout.REGISTER_KIND_EXPRESSION] + layout.RULE_ENTRY_VALUE) // 4]
    cfa = data[places + layout.RULE_CFA_KIND] == layout.CFA_KIND_EXPRESSION
    named = np.append(named, words[(places[cfa] - start + layout.RULE_CFA_A) // 4]).astype(np.int64)
    if ((named < pool) | (named + 2 > pool + pool_size)).any():
        raise refuse("an expression lies outside of the table")
    lengths = data[named].astype(np.int64) + 256 * data[named + 1].astype(np.int64)
    if (named + 2 + lengths > pool + pool_size).any():
        raise refuse("an expression lies outside of the table")
