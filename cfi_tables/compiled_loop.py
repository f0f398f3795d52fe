"""A hot loop as machine code: kept as a shared object, which is called without importing numba.

Owns how a compiled hot loop is called. numba compiles a loop once for each form of its arguments (`loop_compiler`);
the code goes to a shared object in the compiled cache, and later processes map it: importing numba and loading what
it caches takes 0.3 s and 65 MB before the first call, mapping the object takes 0.2 ms.

A compiled loop takes one block of 64-bit words: for an array its address and its length, for an integer its value,
for a tuple its items in turn. The results are written over the block's beginning. The form of the arguments is a
text: `u1`, `i4`, `i8` … for an array of that dtype, `i` for an integer, and parentheses around the items of a tuple.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from array import array
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from cfi_tables.compiled_cache import compiled_cache_directory, kept_loops
from cfi_tables.progress import progress

ENTRY = "ptap_hot_loop"
RESULTS = "ptap_hot_loop_results"
NO_RESULT = -1
ONE_RESULT = 0
"""RESULTS is the number of items in the tuple that a loop returns, or one of these."""

_MAKING = threading.Lock()
_RESULT_WORDS = 16
_ELF_HEADER = struct.Struct("=4s36xQ10xHH2x")
"""Of a 64-bit file: the magic, and the offset, entry size and number of its section headers."""

Entry = Callable[[Any, Any, Any], int]
_NO_BYTES = ctypes.c_char * 0


class CompiledLoop:
    """A hot loop to be called with NumPy arrays, bytes, integers, and tuples of them. Returns int, tuple or None."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._forms: dict[str, tuple[Entry, int]] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Run it. Raises IndexError where numba checks bounds and one is left, TypeError for other arguments."""
        words: list[int] = []
        kept: list[Any] = []
        form = _pack(arguments, words, kept)
        entry, results = self._forms.get(form) or self._load(form)
        if len(words) < _RESULT_WORDS:
            words.extend((0,) * (_RESULT_WORDS - len(words)))
        block = array("q", words)
        unused, error = ctypes.c_int64(), ctypes.c_void_p()
        status = entry(ctypes.byref(unused), ctypes.byref(error), block.buffer_info()[0])
        if status:
            # What numba raises where bounds are checked, and for a division by zero; both are mistakes of the loop.
            name = f"{self.function.__module__}.{self.function.__qualname__}"
            raise IndexError(f"the hot loop {name} left the bounds of an array, or divided by zero (status {status})")
        if results == ONE_RESULT:
            return block[0]
        return tuple(block[:results]) if results > 0 else None

    @property
    def is_mapped(self) -> bool:
        """Whether this process has called it."""
        return bool(self._forms)

    @property
    def is_kept(self) -> bool:
        """Whether code of it is kept from before."""
        return f"{self.function.__module__}.{self.function.__qualname__}" in kept_loops()

    def _load(self, form: str) -> tuple[Entry, int]:
        with _MAKING:
            found = self._forms.get(form)
            if found is None:
                found = self._forms[form] = self._mapped(form) or self._compiled(form)
        return found

    def _mapped(self, form: str) -> tuple[Entry, int] | None:
        path = self._path(form)
        if path is None or not _is_whole(path):
            return None
        with suppress(OSError, AttributeError, ValueError):
            library = ctypes.CDLL(str(path))
            entry = getattr(library, ENTRY)
            entry.argtypes, entry.restype = (ctypes.c_void_p,) * 3, ctypes.c_int32
            return entry, ctypes.c_int64.in_dll(library, RESULTS).value
        return None

    def _compiled(self, form: str) -> tuple[Entry, int]:
        from cfi_tables.loop_compiler import compile_entry

        with progress("compiling ptap's inner loops, once on this machine"):
            code = compile_entry(self.function, form)
            path = self._path(form)
            is_saved = path is not None and code.save(path)
        if is_saved:
            found = self._mapped(form)
            if found is not None:
                return found
        return code.load()

    def _path(self, form: str) -> Path | None:
        directory = compiled_cache_directory()
        if directory is None:
            return None
        shape = sha256(form.encode()).hexdigest()[:8]
        return directory / f"{self.function.__module__}.{self.function.__qualname__}-{shape}.so"


def _is_whole(path: Path) -> bool:
    """Whether the shared object ends where it says: its section headers are its last part (ELF gABI, chapter 4).

    The dynamic linker maps a file that was cut short, and the first touch beyond its end would kill the process.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_ELF_HEADER.size)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return False
    if len(header) < _ELF_HEADER.size:
        return False
    magic, at, entry_size, count = _ELF_HEADER.unpack(header)
    return bool(magic == b"\x7fELF" and 0 < at <= at + entry_size * count <= size)


def _address(array: Any) -> int:
    """Where a flat array lies. Raises TypeError for another one.

    To ask is the longest part of a short call: `__array_interface__` is made anew each time, and takes four times as
    long as a buffer, which only an array that may be written to gives.
    """
    if array.ndim == 1:
        flags = array.flags
        if flags.writeable and flags.c_contiguous:
            return ctypes.addressof(_NO_BYTES.from_buffer(array))
        interface = array.__array_interface__
        if interface["strides"] is None:
            return int(interface["data"][0])
    raise TypeError("hot loops take flat, contiguous arrays")


def _pack(arguments: tuple[Any, ...], words: list[int], kept: list[Any]) -> str:
    """Append the words of `arguments`; `kept` holds what owns their memory. Returns their form."""
    forms = []
    for each in arguments:
        if type(each) is int:
            words.append(each)
            forms.append("i")
        elif hasattr(each, "dtype") and each.ndim:
            words += (_address(each), len(each))
            forms.append(each.dtype.str[1:])
        elif isinstance(each, tuple):
            forms.append(f"({_pack(each, words, kept)})")
        elif isinstance(each, (bytes, bytearray, memoryview)):
            import numpy as np

            kept.append(np.frombuffer(each, dtype=np.uint8))
            forms.append(_pack((kept[-1],), words, kept))
        else:
            words.append(int(each))
            forms.append("i")
    return ",".join(forms)
