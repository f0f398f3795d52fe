"""The walk of other architectures than x86-64: the same hot loops with other constants.

`unwind.walk` and `unwind.expression` name everything that depends on the architecture, with x86-64's values, so that
its walk is compiled with constants. For another one the functions are made again, over globals with its own: the same
code, and constants again. They are hot loops too; their names end with the architecture's.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from cfi_tables.hot_loop import HOT_LOOPS
from unwind import expression, walk
from unwind.architecture import narrow_words
from unwind.architecture.frame_architecture import FrameArchitecture, frame_architecture, is_x86_64

_MODULES = (walk.__name__, expression.__name__)


def _constants(architecture: FrameArchitecture) -> dict[str, Any]:
    """By the names of `unwind.walk` and `unwind.expression`."""
    cfi = architecture.cfi
    constants: dict[str, Any] = {
        "REGISTER_COUNT": architecture.register_count,
        "STATE_REGISTERS": architecture.register_count,
        "FRAME_POINTER": architecture.frame_pointer,
        "STACK_POINTER": cfi.stack_pointer,
        "RETURN_ADDRESS": architecture.program_counter,
        "RETURN_COLUMN": cfi.return_column,
        "CALLEE_SAVED": cfi.same_mask,
        "ADDRESS_SIZE": cfi.address_size,
        # Where the return address goes to a register, the kernel's code that returns from a signal is known by itself.
        "SIGNAL_FRAMES_ASIDE": int(cfi.return_column != architecture.program_counter),
    }
    if cfi.address_size == 4:
        constants |= {
            "wrap_address": narrow_words.wrap_address_32,
            "wrap_value": narrow_words.wrap_value_32,
            "_logical_shift_right": narrow_words.logical_shift_right_32,
            "_shift_left": narrow_words.shift_left_32,
            "_unsigned_modulo": narrow_words.unsigned_modulo_32,
        }
    return constants


@cache
def hot_loop_of(function: Callable[..., Any], machine: int) -> Callable[..., Any]:
    """A hot loop of `unwind.walk` or `unwind.expression` for an ELF machine.

    Arrays of registers have the architecture's `register_count` each.
    """
    architecture = frame_architecture(machine)
    if is_x86_64(architecture):
        return function
    return _specialised(function, _constants(architecture), architecture.cfi.name, {})


def walk_of(machine: int) -> Callable[..., tuple[int, int]]:
    """`unwind.walk.walk` for an ELF machine."""
    return hot_loop_of(walk.walk, machine)


def _specialised(
    function: Callable[..., Any], constants: Mapping[str, Any], suffix: str, made: dict[Any, Any]
) -> Callable[..., Any]:
    if function in made:
        return made[function]  # type: ignore[no-any-return]
    source: Any = function
    namespace = dict(source.__globals__)
    for name in source.__code__.co_names:
        value = namespace.get(name)
        if name in constants:
            namespace[name] = constants[name]
        elif isinstance(value, types.FunctionType) and value in HOT_LOOPS and value.__module__ in _MODULES:
            namespace[name] = _specialised(value, constants, suffix, made)
    clone: Any = types.FunctionType(source.__code__, namespace, source.__name__, source.__defaults__)
    clone.__module__, clone.__qualname__ = source.__module__, f"{source.__qualname__}_{suffix}"
    HOT_LOOPS.add(clone)
    made[function] = clone
    return clone  # type: ignore[no-any-return]
