"""Rows, scopes and functions → the parts of a symbol index (index_layout.py says how they are coded)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables.hot_loop import compiled, hot_loop
from unwind.symbolize import scope_rows as S
from unwind.symbolize.index_layout import BLOCK, STRING_BLOCK
from unwind.symbolize.name_table import NameTable
from unwind.symbolize.packed_column import PackedColumn, pack

Int64s = NDArray[np.int64]


@dataclass(slots=True)
class EncodedRows:
    """The parts of an index that rows, scopes and functions make."""

    values: dict[str, Int64s]
    """What the packed columns hold, by their names."""
    arrays: dict[str, NDArray[Any]]
    counts: dict[str, int]
    addresses: Int64s
    scopes: Int64s
    """Of each row."""


def encode_rows(rows: Int64s, scopes: Int64s, functions: Int64s) -> EncodedRows:
    """Encode the rows, scopes and functions that `make_scopes` wrote."""
    scope = rows[:, S.ROW_SCOPE]
    function_of = scopes[:, S.SCOPE_FUNCTION]
    outer = scopes[:, S.SCOPE_OUTER]
    least = functions[:, S.FUNCTION_LINE]
    addresses = rows[:, S.ROW_ADDRESS]
    codes, before = _scope_codes(scope)
    numbers = _by_frequency(function_of, len(functions))
    order = np.argsort(numbers)
    values = {
        "delta": _distances(addresses),
        "scope": codes,
        "line": _line_codes(rows[:, S.ROW_LINE], least[function_of[scope]]),
        "column": rows[:, S.ROW_COLUMN],
        "outer": np.where(outer > 0, np.arange(len(scopes)) - outer, 0),
        "function": numbers[function_of],
        "call_line": _line_codes(scopes[:, S.SCOPE_CALL_LINE], least[function_of[outer]]),
        "call_column": scopes[:, S.SCOPE_CALL_COLUMN],
        "name": functions[order, S.FUNCTION_NAME],
        "file": functions[order, S.FUNCTION_FILE],
        "least_line": least[order],
    }
    arrays: dict[str, NDArray[Any]] = {"block_address": _firsts(addresses).view(np.uint64), "block_scope": before}
    counts = {"row_count": len(rows), "scope_count": len(scopes), "function_count": len(functions)}
    return EncodedRows(values, arrays, counts, addresses, scope)


def encode_begins(addresses: Int64s, values: Int64s) -> tuple[dict[str, Int64s], dict[str, NDArray[Any]]]:
    """(values of columns, arrays) of where functions and their parts begin."""
    return {"begin": _distances(addresses), "begin_offset": values}, {
        "begin_address": _firsts(addresses).view(np.uint64)
    }


@hot_loop
def pack_values(values: Any, data: Any, begins: Any) -> int:
    """Pack as `packed_column.pack` does, into `data`, which is large enough. Returns how many bytes that took."""
    at = 0
    for index in range(len(values)):
        if index % BLOCK == 0:
            begins[index // BLOCK] = at
        value = 0 + values[index]
        while value > 127:
            data[at] = value & 127 | 128
            value >>= 7
            at += 1
        data[at] = value
        at += 1
    begins[len(begins) - 1] = at
    return at


def pack_columns(values: dict[str, Int64s], plain: bool) -> dict[str, PackedColumn]:
    """Packed columns of these values; `plain` has NumPy do it."""
    if plain:
        return {name: pack(each) for name, each in values.items()}
    packed: dict[str, PackedColumn] = {}
    longest = max(map(len, values.values()))
    data = np.empty(10 * longest, dtype=np.uint8)
    for name, each in values.items():
        begins = np.zeros(-(-len(each) // BLOCK) + 1, dtype=np.int64)
        size = compiled(pack_values)(np.ascontiguousarray(each), data, begins)
        packed[name] = PackedColumn(data[:size].copy(), begins.astype(np.uint32), len(each))
    return packed


def encode_strings(name: str, strings: list[str]) -> dict[str, NDArray[Any]]:
    """The arrays of a list of strings; NULs, which none should have, end them."""
    encoded = [each.encode("utf-8", "surrogateescape").partition(b"\0")[0] + b"\0" for each in strings]
    begins = np.cumsum([0, *map(len, encoded)])[:-1][::STRING_BLOCK]
    return {f"{name}s": np.frombuffer(b"".join(encoded), dtype=np.uint8), f"{name}_begins": begins.astype(np.uint32)}


def encode_names(names: NameTable) -> dict[str, NDArray[Any]]:
    """The arrays of the names."""
    return {"names": names.texts, "name_begins": names.begins[::STRING_BLOCK].astype(np.uint32)}


def _firsts(addresses: Int64s) -> Int64s:
    return np.ascontiguousarray(addresses[::BLOCK])


def _distances(addresses: Int64s) -> Int64s:
    """The distance of each address from the one before, 0 for the first one of a block."""
    found = np.zeros(len(addresses), dtype=np.int64)
    found[1:] = addresses[1:] - addresses[:-1]
    found[::BLOCK] = 0
    return found


def _scope_codes(scope: Int64s) -> tuple[Int64s, NDArray[np.uint32]]:
    """The code of each row's scope, and the greatest scope in front of each block."""
    greatest = np.maximum.accumulate(scope) if len(scope) else scope
    before = np.append(0, greatest[:-1]) if len(scope) else scope
    new = greatest > before
    codes = np.where(scope == 0, 2, 4 + 2 * (greatest - scope))
    codes[new] = 2 * (greatest - before)[new] - 1
    same = np.zeros(len(scope), dtype=bool)
    same[1:] = scope[1:] == scope[:-1]
    same[::BLOCK] = False
    codes[same] = 0
    return codes, before[::BLOCK].astype(np.uint32)


def _line_codes(lines: Int64s, least: Int64s) -> Int64s:
    return np.where(lines > 0, lines - least + 1, 0)


def _by_frequency(function_of: Int64s, count: int) -> Int64s:
    """The new number of each function: those of many scopes get the small ones. 0 stays what it is."""
    uses = np.bincount(function_of, minlength=count)
    uses[0] = len(function_of) + 1
    order = np.argsort(-uses, kind="stable")
    numbers = np.empty(count, dtype=np.int64)
    numbers[order] = np.arange(count)
    return numbers
