"""Hot loops: one source that runs as plain Python and, when it pays, as machine code through numba.

Owns the switch between the two. A function marked with `hot_loop` stays an ordinary Python function: called
directly it is interpreted, which needs no numba import and is the right choice for a few hundred stack frames
or one small compilation unit. `compiled` gives the same function as machine code, together with every hot loop
that it calls, for bulk work. The plain form is also the twin that the tests compare the compiled one with.

Rules for the body of a hot loop, which make both forms agree:

* Every integer is a signed 64-bit one. Addresses and register values are kept as int64 bit patterns. Arithmetic
  that may leave the range is passed through `wrap64`, a no-op where the machine wraps by itself. But numba tells
  the compiler that signed sums never wrap, so nothing may be decided by comparing one that did: such a loop or bounds
  check can be optimized away. Compare operands that stay in range instead (as `unwind.memory` does).
* Arrays are flat: in the plain form memoryviews (which index faster than NumPy arrays and give Python integers),
  in the compiled form NumPy arrays of the same dtype. `plain_view` gives the one for the other. Only bytes and
  int64/int32 arrays are used; uint64 is avoided since numba turns uint64 with int64 into float64.
* Bounds are checked by the code itself; NUMBA_BOUNDSCHECK=1 in the tests makes a mistake visible.

The compiled code is cached on disk under a key that hashes the sources of all packages that hold hot loops,
because numba's own cache does not notice a change in a function imported from another file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

FlatArray: TypeAlias = Any
"""A one-dimensional array of bytes, int32 or int64: a memoryview (plain form) or an ndarray (compiled form)."""

_Function = TypeVar("_Function", bound=Callable[..., Any])

_HOT_LOOPS: set[Callable[..., Any]] = set()
_MACHINE_LOADS: set[Callable[..., Any]] = set()

_KEPT_VERSIONS = 4
_SIGN = 1 << 63
_MASK = (1 << 64) - 1


def hot_loop(function: _Function) -> _Function:
    """Mark `function` as a hot loop: unchanged when called, and compilable by `compiled`."""
    _HOT_LOOPS.add(function)
    return function


def machine_load(function: _Function) -> _Function:
    """Mark a hot loop that reads an integer from bytes: where no bounds are checked, it compiles to one load."""
    _MACHINE_LOADS.add(function)
    return hot_loop(function)


@hot_loop
def wrap64(value: int) -> int:
    """`value` reduced to a signed 64-bit integer; what the machine does by itself in the compiled form."""
    return ((value + _SIGN) & _MASK) - _SIGN


def _identity(value: int) -> int:
    return value


@cache
def compiled(function: _Function) -> _Function:
    """The machine-code form of a hot loop, compiled at its first call and cached on disk.

    Globals that are hot loops themselves are compiled with it. Raises TypeError for a function that is not
    marked with `hot_loop`.
    """
    if function not in _HOT_LOOPS:
        raise TypeError(f"{function.__qualname__} is not marked as a hot loop")
    import numba

    config: Any = numba.config
    if function in _MACHINE_LOADS and sys.byteorder == "little" and not config.BOUNDSCHECK:
        from cfi_tables.machine_load import machine_load

        return cast(_Function, machine_load(function.__name__))
    directory = compiled_cache_directory()
    if directory is not None:
        config.CACHE_DIR = str(directory)
    source: Any = _identity if function is wrap64 else function
    namespace = dict(source.__globals__)
    for name in source.__code__.co_names:
        value = namespace.get(name)
        if isinstance(value, types.FunctionType) and value in _HOT_LOOPS and value is not source:
            namespace[name] = compiled(value)
    clone = types.FunctionType(source.__code__, namespace, source.__name__, source.__defaults__)
    clone.__module__ = source.__module__
    clone.__qualname__ = source.__qualname__
    # Hot loops allocate nothing. Without numba's run time, calls do not count the references to their arrays, which
    # takes longer than what many of them do.
    options: Any = {"cache": directory is not None, "nogil": True, "_nrt": False}
    return cast(_Function, numba.njit(**options)(clone))


@cache
def compiled_cache_directory() -> Path | None:
    """Where compiled hot loops are kept: a directory whose name hashes the sources that hold them.

    None when it cannot be written: then every process compiles what it needs.
    """
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for package in ("cfi_tables", "relay_reader", "unwind"):
        for source in sorted((root / package).rglob("*.py")):
            digest.update(source.read_bytes())
    digest.update(os.environ.get("NUMBA_BOUNDSCHECK", "").encode())
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    directory = Path(base) / "ptap" / "compiled" / digest.hexdigest()[:16]
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        pass
    except OSError:
        return None
    else:
        _remove_all_but_newest(directory.parent)
    return directory if os.access(directory, os.W_OK) else None


def _remove_all_but_newest(base: Path) -> None:
    """Keep the compiled code of the few versions that were begun last; a removed one is compiled again."""
    with suppress(OSError):
        by_age = sorted(base.iterdir(), key=lambda each: each.stat().st_mtime)
        for old in by_age[:-_KEPT_VERSIONS]:
            shutil.rmtree(old, ignore_errors=True)


def plain_view(array: Any) -> Any:
    """A flat array as the plain form of a hot loop wants it: a memoryview over the same memory."""
    return array if isinstance(array, (bytes, memoryview)) else memoryview(array)


def run_hot(function: Callable[..., Any], use_compiled: bool, *arguments: Any) -> Any:
    """Call a hot loop in its compiled form, or in its plain form with `plain_view` of each array."""
    if use_compiled:
        return compiled(function)(*arguments)
    # Not a type check against ndarray: nothing here imports NumPy, which lookups do without.
    return function(*(plain_view(each) if hasattr(each, "dtype") else each for each in arguments))
