"""Machine code of a hot loop by numba: an entry with one argument, as object code and as a shared object.

The only module that imports numba to run something. `machine_code` is a hot loop as numba's dispatcher, with every
hot loop it calls; `compile_entry` puts the entry around it that `compiled_loop` calls. The object code is linked by
the linker of the system; where there is none, it is used in this process only.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import types as python_types
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, cast

import numba
from llvmlite import binding, ir
from numba.extending import intrinsic

from cfi_tables.compiled_cache import compiled_cache_directory
from cfi_tables.compiled_loop import ENTRY, NO_RESULT, ONE_RESULT, RESULTS, Entry
from cfi_tables.hot_loop import HOT_LOOPS, MACHINE_LOADS, compiled_body

# numba's own modules have no type hints.
types: Any = importlib.import_module("numba.core.types")
cgutils: Any = importlib.import_module("numba.core.cgutils")
arrayobj: Any = importlib.import_module("numba.np.arrayobj")

_INT64 = ir.IntType(64)
_LINKERS = ("ld", "ld.lld", "ld.gold", "ld.mold")
_ENTRY_TYPE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


def _options() -> dict[str, Any]:
    # Hot loops allocate nothing. Without numba's run time, calls do not count the references to their arrays, which
    # takes longer than what many of them do.
    return {"nogil": True, "_nrt": False}


@cache
def machine_code(function: Callable[..., Any]) -> Any:
    """`function` and the hot loops that it calls as numba's dispatchers, to be called from functions of numba.

    Raises TypeError for a function that is not marked with `hot_loop`.
    """
    if function not in HOT_LOOPS:
        raise TypeError(f"{function.__qualname__} is not marked as a hot loop")
    config: Any = numba.config
    if function in MACHINE_LOADS and sys.byteorder == "little" and not config.BOUNDSCHECK:
        from cfi_tables.machine_load import machine_load

        return machine_load(function.__name__)
    directory = compiled_cache_directory()
    if directory is not None:
        config.CACHE_DIR = str(directory)
    source: Any = compiled_body(function)
    namespace = dict(source.__globals__)
    for name in source.__code__.co_names:
        value = namespace.get(name)
        if isinstance(value, python_types.FunctionType) and value in HOT_LOOPS and value is not source:
            namespace[name] = machine_code(value)
    clone = python_types.FunctionType(source.__code__, namespace, source.__name__, source.__defaults__)
    clone.__module__ = source.__module__
    clone.__qualname__ = source.__qualname__
    return numba.njit(cache=directory is not None, **_options())(clone)


class EntryCode:
    """The compiled entry of a hot loop for one form of arguments."""

    def __init__(self, library: Any, symbol: str, results: int) -> None:
        self._library = library
        self._symbol = symbol
        self._results = results

    def load(self) -> tuple[Entry, int]:
        """The entry in this process, and its RESULTS."""
        address = self._library.get_pointer_to_function(self._symbol)
        entry = cast(Any, _ENTRY_TYPE(address))
        entry.library = self._library
        return entry, self._results

    def save(self, path: Path) -> bool:
        """Write the shared object: whole or not at all. False where it cannot be linked or written."""
        linker = next(filter(None, map(shutil.which, _LINKERS)), None)
        if linker is None:
            return False
        with suppress(OSError), tempfile.TemporaryDirectory(dir=path.parent, prefix=".link-") as folder:
            source, made = Path(folder, "loop.o"), Path(folder, "loop.so")
            source.write_bytes(self._object())
            command = [linker, "-shared", "-z", "lazy", "-z", "noexecstack", "-o", str(made), str(source)]
            if subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0:
                os.replace(made, path)
                return True
        return False

    def _object(self) -> bytes:
        """Position-independent object code of the loop and all it calls, with the two symbols of `compiled_loop`."""
        results = f"\n@{RESULTS} = constant i64 {self._results}\n"
        module = binding.parse_assembly(self._library.get_llvm_str() + results)
        for function in module.functions:
            if function.name == self._symbol:
                function.name = ENTRY
            elif not function.is_declaration:
                function.linkage = "internal"
        target = binding.Target.from_triple(binding.get_process_triple())
        machine = target.create_target_machine(
            cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(),
            opt=3, reloc="pic", codemodel="small",
        )  # fmt: skip
        return bytes(machine.emit_object(module))


def compile_entry(function: Callable[..., Any], form: str) -> EntryCode:
    """The entry of `function` for arguments of `form` (see `compiled_loop`)."""
    loop = machine_code(function)
    parts = tuple(_types_of(iter(_tokens(form))))
    take, keep, counted = _take_arguments(parts), *_keep_results()

    def entry(block: Any) -> int:
        keep(block, loop(*take(block)))
        return 0

    pointer = types.CPointer(types.int64)
    signature = types.int64(pointer)
    options = {**_options(), "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    made: Any = numba.njit(signature, **options)(entry)
    result = made.overloads[(pointer,)]
    return EntryCode(result.library, result.fndesc.llvm_func_name, counted[0])


def _tokens(form: str) -> list[str]:
    return form.replace("(", ",(,").replace(")", ",),").split(",")


def _types_of(tokens: Iterator[str]) -> Iterator[Any]:
    """numba's types of the items up to the end, or up to the parenthesis that closes them."""
    for token in tokens:
        if token == ")":
            return
        if token == "(":
            yield types.Tuple(tuple(_types_of(tokens)))
        elif token == "i":
            yield types.int64
        elif token:
            yield types.Array(getattr(types, {"u": "uint", "i": "int"}[token[0]] + str(8 * int(token[1:]))), 1, "C")


def _take_arguments(parts: tuple[Any, ...]) -> Any:
    """An intrinsic (block) -> tuple of the types `parts`, read from the block's words."""
    whole = types.Tuple(parts)

    @intrinsic
    def take(typing_context: Any, block: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = iter(range(1 << 20))

            def word() -> Any:
                return builder.load(builder.gep(arguments[0], [ir.Constant(_INT64, next(place))]))

            return _value(context, builder, whole, word)

        return whole(block), generate

    return take


def _value(context: Any, builder: Any, kind: Any, word: Callable[[], Any]) -> Any:
    """The value of type `kind`, of the words that `word` gives in turn."""
    if isinstance(kind, types.Integer):
        return word()
    if isinstance(kind, types.BaseTuple):
        return context.make_tuple(builder, kind, [_value(context, builder, each, word) for each in kind.types])
    found = context.make_array(kind)(context, builder)
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    data, length = builder.inttoptr(word(), context.get_data_type(kind.dtype).as_pointer()), word()
    arrayobj.populate_array(
        found, data=data, shape=cgutils.pack_array(builder, [length]),
        strides=cgutils.pack_array(builder, [ir.Constant(_INT64, size)]), itemsize=ir.Constant(_INT64, size),
        meminfo=None,
    )  # fmt: skip
    return found._getvalue()


def _keep_results() -> tuple[Any, list[int]]:
    """An intrinsic (block, result) -> None that writes a loop's result, and a list that then holds its RESULTS."""
    counted = [NO_RESULT]

    @intrinsic
    def keep(typing_context: Any, block: Any, result: Any) -> Any:
        items = result.types if isinstance(result, types.BaseTuple) else (result,)
        if isinstance(result, types.NoneType):
            items = ()
        else:
            counted[0] = len(items) if isinstance(result, types.BaseTuple) else ONE_RESULT

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            for index, kind in enumerate(items):
                value = arguments[1]
                if isinstance(result, types.BaseTuple):
                    value = builder.extract_value(value, index)
                place = builder.gep(arguments[0], [ir.Constant(_INT64, index)])
                builder.store(context.cast(builder, value, kind, types.int64), place)
            return context.get_dummy_value()

        return types.void(block, result), generate

    return keep, counted
