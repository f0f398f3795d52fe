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

The compiled code is made by `loop_compiler`, kept as shared objects (`compiled_cache`) and called without numba
(`compiled_loop`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias, TypeVar, cast

FlatArray: TypeAlias = Any
"""A one-dimensional array of bytes, int32 or int64: a memoryview (plain form) or an ndarray (compiled form)."""

_Function = TypeVar("_Function", bound=Callable[..., Any])

HOT_LOOPS: set[Callable[..., Any]] = set()
MACHINE_LOADS: set[Callable[..., Any]] = set()

_SIGN = 1 << 63
_MASK = (1 << 64) - 1


def hot_loop(function: _Function) -> _Function:
    """Mark `function` as a hot loop: unchanged when called, and compilable by `compiled`."""
    HOT_LOOPS.add(function)
    return function


def machine_load(function: _Function) -> _Function:
    """Mark a hot loop that reads an integer from bytes: where no bounds are checked, it compiles to one load."""
    MACHINE_LOADS.add(function)
    return hot_loop(function)


@hot_loop
def wrap64(value: int) -> int:
    """`value` reduced to a signed 64-bit integer; what the machine does by itself in the compiled form."""
    return ((value + _SIGN) & _MASK) - _SIGN


def _identity(value: int) -> int:
    return value


def compiled_body(function: _Function) -> _Function:
    """The function whose body is compiled for a hot loop: itself, but where the machine does by itself what it says."""
    return cast(_Function, _identity) if cast(Any, function) is wrap64 else function


@cache
def compiled(function: _Function) -> _Function:
    """The machine-code form of a hot loop, compiled at the first call ever and kept on disk.

    Globals that are hot loops themselves are compiled with it. Raises TypeError for a function that is not
    marked with `hot_loop`.
    """
    if function not in HOT_LOOPS:
        raise TypeError(f"{function.__qualname__} is not marked as a hot loop")
    from cfi_tables.compiled_loop import CompiledLoop

    return cast(_Function, CompiledLoop(function))


_MAPPED_FROM = 0.001
_KEPT_FROM = 0.005
_COMPILED_FROM = 0.5
_interpreted = 0.0


def compiled_pays(function: Callable[..., Any], seconds: float) -> bool:
    """Whether a job that takes the interpreter about so many seconds is one for the compiled form of `function`.

    It is from 5 ms on where the code is kept from before, from half a second in all where it must be compiled first,
    which takes seconds but is done once for all later processes.
    """
    global _interpreted
    loop: Any = compiled(function)
    if loop.is_mapped:
        return seconds > _MAPPED_FROM
    if (_interpreted + seconds > _KEPT_FROM and loop.is_kept) or _interpreted + seconds > _COMPILED_FROM:
        return True
    _interpreted += seconds
    return False


def plain_view(array: Any) -> Any:
    """A flat array as the plain form of a hot loop wants it: a memoryview over the same memory."""
    return array if isinstance(array, (bytes, memoryview)) else memoryview(array)


def run_hot(function: Callable[..., Any], use_compiled: bool, *arguments: Any) -> Any:
    """Call a hot loop in its compiled form, or in its plain form with `plain_view` of each array."""
    if use_compiled:
        return compiled(function)(*arguments)
    # Not a type check against ndarray: nothing here imports NumPy, which lookups do without.
    return function(*(plain_view(each) if hasattr(each, "dtype") else each for each in arguments))
