"""Values as they were when a function was entered (DW_OP_entry_value, DWARF 5 §2.5.1.7, and DW_OP_GNU_parameter_ref).

A register that calls preserve had at entry what it has in the caller's frame; the stack pointer was below the CFA by
what a call pushes. What was in any other register is told by the caller's call site, if it is certain which call that
was. Memory may have changed since, so what lay behind a pointer is known only where the call site tells that, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from unwind.arguments import call_site
from unwind.arguments.frame_state import FrameState
from unwind.arguments.machine import Budget, Machine, base_type_at, die_at, generic_type
from unwind.arguments.operand_reader import OperandReader
from unwind.arguments.typed_value import BaseType, TypedValue, typed
from unwind.arguments.unavailable import Reason, Unavailable, malformed
from unwind.dwarf.die import Die, Unit
from unwind.dwarf.enumeration import Op

Evaluate = Callable[[bytes, FrameState, Unit, Budget], TypedValue]
"""Evaluates an expression to a value, not a location, at the cost of a budget. Raises Unavailable."""


def push_entry_value(machine: Machine, block: bytes, evaluate: Evaluate) -> None:
    """Push what `block` gave at function entry. Raises Unavailable."""
    machine.state.needs_process()
    simple = _register_or_memory(block, machine.unit)
    if simple is None:
        machine.push(evaluate(block, _state_at_entry(machine, evaluate), machine.unit, machine.budget))
        return
    register, size, type_ = simple
    if size is not None:
        site = _call_site(machine, evaluate)
        parameter = call_site.parameter_for_register(site.die, register)
        expression = call_site.passed_data_value(parameter)
        value = _passed(machine, site, expression, parameter, evaluate)
        machine.push(value.bits & ((1 << 8 * size) - 1))
        return
    value = _register_at_entry(machine, register, evaluate)
    if type_ is not None and value.type != type_:
        if value.size < type_.size:
            raise malformed("a value at function entry is smaller than its type")
        value = TypedValue(value.bits & ((1 << 8 * type_.size) - 1), type_)
    machine.push(value)


def push_parameter(machine: Machine, offset: int, evaluate: Evaluate) -> None:
    """Push what was passed for the formal parameter at an offset of the unit. Raises Unavailable."""
    machine.state.needs_process()
    formal_parameter = die_at(machine.unit, machine.unit.offset + offset)
    site = _call_site(machine, evaluate)
    parameter = call_site.parameter_for_entry(site.die, formal_parameter)
    machine.push(_passed(machine, site, call_site.passed_value(parameter), parameter, evaluate))


def _register_or_memory(block: bytes, unit: Unit) -> tuple[int, int | None, BaseType | None] | None:
    """(register, size of what it points to, type) of the forms that compilers write; None of others."""
    inner = OperandReader(block, unit)
    op = inner.fixed(1)
    size: int | None = None
    type_: BaseType | None = None
    if Op.REG0 <= op <= Op.REG31:
        register = op - Op.REG0
    elif op == Op.REGX:
        register = inner.uleb128()
    elif op in (Op.REGVAL_TYPE, Op.GNU_REGVAL_TYPE):
        register = inner.uleb128()
        type_ = base_type_at(unit, inner.uleb128())
    elif Op.BREG0 <= op <= Op.BREG31:
        register = op - Op.BREG0
        if inner.sleb128() != 0 or inner.at_end:
            return None
        dereference = inner.fixed(1)
        if dereference not in (Op.DEREF, Op.DEREF_SIZE):
            return None
        size = inner.fixed(1) if dereference == Op.DEREF_SIZE else unit.address_size
    else:
        return None
    return (register, size, type_) if inner.at_end else None


def _register_at_entry(machine: Machine, register: int, evaluate: Evaluate) -> TypedValue:
    state = machine.state
    architecture, word = state.architecture, generic_type(machine.unit)
    if register == architecture.cfi.stack_pointer and state.cfa is not None:
        return typed(state.cfa - architecture.call_pushes, word)
    if register in architecture.preserved:
        caller = state.caller()
        if caller is None:
            raise Unavailable(Reason.ENTRY_VALUE, call_site.UNKNOWN + "the caller's frame is not known")
        return typed(caller.register(register), word)
    site = _call_site(machine, evaluate)
    parameter = call_site.parameter_for_register(site.die, register)
    return _passed(machine, site, call_site.passed_value(parameter), parameter, evaluate)


def _state_at_entry(machine: Machine, evaluate: Evaluate) -> FrameState:
    """The frame's state at its function's first instruction, as far as it is known."""
    registers, known = [0] * len(machine.state.registers), 0
    for register in range(min(machine.state.architecture.program_counter, len(registers))):
        try:
            value = _register_at_entry(machine, register, evaluate)
        except Unavailable:
            continue
        if value.type == generic_type(machine.unit):
            registers[register] = value.bits
            known |= 1 << register
    return replace(machine.state, registers=registers, known=known, carried=0, vector_registers={}, read=_changed)


def _changed(address: int, size: int) -> bytes:
    raise Unavailable(Reason.ENTRY_VALUE, call_site.UNKNOWN + f"memory at {address:#x} may have changed since")


def _call_site(machine: Machine, evaluate: Evaluate) -> call_site.CallSite:
    budget = machine.budget

    def address_of(expression: bytes, state: FrameState, site: Die) -> int:
        return evaluate(expression, state, site.unit, budget).bits

    return call_site.call_site_of(machine.state, address_of)


def _passed(
    machine: Machine, site: call_site.CallSite, expression: bytes | None, parameter: Die | None, evaluate: Evaluate
) -> TypedValue:
    if expression is None or parameter is None:
        raise Unavailable(Reason.ENTRY_VALUE, call_site.UNKNOWN + "the caller does not describe it")
    return evaluate(expression, site.caller, parameter.unit, machine.budget)
