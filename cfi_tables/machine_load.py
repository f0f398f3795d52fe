"""Fixed-size integers read by one load instruction: what the reads of `scalars` are in compiled code.

numba indexes each byte by itself and guards every index against being negative, which costs a lookup more than all
the rest. Without bounds checks there is nothing to guard. Imported only where numba is, and used only on
little-endian hosts and when numba checks no bounds.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

_INT64 = ir.IntType(64)


def _load(bits: int, signed: bool) -> Any:
    """An intrinsic (data, at) -> int64 that reads an integer of `bits` bits at any byte of a byte array."""

    def load(typing_context: Any, data: Any, at: Any) -> Any:
        if not isinstance(data, types.Array) or data.dtype != types.uint8 or data.layout != "C":
            raise TypingError(f"bytes are read from contiguous byte arrays, not from {data}")

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, arguments[0])
            place = builder.gep(array.data, [arguments[1]])
            value = builder.load(builder.bitcast(place, ir.IntType(bits).as_pointer()), align=1)
            if bits == 64:
                return value
            return builder.sext(value, _INT64) if signed else builder.zext(value, _INT64)

        return types.int64(data, types.int64), generate

    return intrinsic(load)


def _item() -> Any:
    """An intrinsic (array, at) -> int64 that reads an item of an array of signed integers."""

    def load(typing_context: Any, array: Any, at: Any) -> Any:
        if not isinstance(array, types.Array) or not isinstance(array.dtype, types.Integer) or array.layout != "C":
            raise TypingError(f"items are read from contiguous arrays of integers, not from {array}")

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            value = builder.load(builder.gep(data, [arguments[1]]))
            return value if value.type == _INT64 else builder.sext(value, _INT64)

        return types.int64(array, types.int64), generate

    return intrinsic(load)


def _put_item() -> Any:
    """An intrinsic (array, at, value) -> None that writes an item of an array of signed integers."""

    def store(typing_context: Any, array: Any, at: Any, value: Any) -> Any:
        if not isinstance(array, types.Array) or not isinstance(array.dtype, types.Integer) or array.layout != "C":
            raise TypingError(f"items are written to contiguous arrays of integers, not to {array}")

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            value = arguments[2]
            if data.type.pointee != _INT64:
                value = builder.trunc(value, data.type.pointee)
            builder.store(value, builder.gep(data, [arguments[1]]))
            return context.get_dummy_value()

        return types.void(array, types.int64, types.int64), generate

    return intrinsic(store)


def _store() -> Any:
    """An intrinsic (data, at, value) -> None that writes 64 bits at any byte of a byte array."""

    def store(typing_context: Any, data: Any, at: Any, value: Any) -> Any:
        if not isinstance(data, types.Array) or data.dtype != types.uint8 or data.layout != "C":
            raise TypingError(f"bytes are written to contiguous byte arrays, not to {data}")

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, arguments[0])
            place = builder.gep(array.data, [arguments[1]])
            builder.store(arguments[2], builder.bitcast(place, _INT64.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(data, types.int64, types.int64), generate

    return intrinsic(store)


def _fetch_ahead() -> Any:
    """An intrinsic (data, at) -> None that has the processor fetch the cache line of an item of an array."""

    def fetch(typing_context: Any, data: Any, at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = builder.gep(
                context.make_array(signature.args[0])(context, builder, arguments[0]).data, [arguments[1]]
            )
            narrow = ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [place.type, narrow, narrow, narrow])
            function = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
            # For reading, into all levels, of data.
            builder.call(function, [place, ir.Constant(narrow, 0), ir.Constant(narrow, 3), ir.Constant(narrow, 1)])
            return context.get_dummy_value()

        return types.void(data, types.int64), generate

    return intrinsic(fetch)


_LOADS = {
    "fetch_ahead": _fetch_ahead(),
    "item": _item(),
    "put_item": _put_item(),
    "write_i64": _store(),
    "read_u8": _load(8, False),
    "read_u16": _load(16, False),
    "read_i16": _load(16, True),
    "read_u32": _load(32, False),
    "read_i32": _load(32, True),
    "read_i64": _load(64, True),
}


def machine_load(name: str) -> Any:
    """The load that stands for the read `name` of `scalars` in compiled code, None when there is none."""
    return _LOADS.get(name)
