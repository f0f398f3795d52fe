"""DWARF expressions and location descriptions, versions 2 to 5 with GNU's forms of DWARF 4 (DWARF 5 §2.5,
§2.6).

`evaluate` runs an expression in a frame's state and gives a Location. Steps, the depth of calls and the
stack are bounded. What an expression needs and the state lacks ends it as UnknownLocation with the cause;
damage does too.
"""

from __future__ import annotations

from collections.abc import Sequence

from unwind.arguments import typed_value
from unwind.arguments.entry_type import encoding_of, size_of, stripped, type_of
from unwind.arguments.entry_value import push_entry_value, push_parameter
from unwind.arguments.frame_state import FrameState
from unwind.arguments.location import (
    Contents,
    ImplicitPointerLocation,
    Location,
    MemoryLocation,
    OptimizedOut,
    Piece,
    PiecesLocation,
    RegisterLocation,
    UnknownLocation,
    ValueLocation,
)
from unwind.arguments.machine import Budget, Machine, base_type, die_at, generic_type
from unwind.arguments.operand_reader import OperandReader
from unwind.arguments.typed_value import BaseType, TypedValue, sign_extended, typed
from unwind.arguments.unavailable import (
    Reason,
    Unavailable,
    damage_as_unavailable,
    malformed,
    optimized_out,
    unsupported,
)
from unwind.arguments.x87_register import float_in_register, is_x87
from unwind.dwarf.die import Die, Unit
from unwind.dwarf.enumeration import At, Encoding, Op, Tag

_MOST_PIECES = 4_096
_DEEPEST = 24
_LARGEST_VALUE = 64
"""Bytes of a variable whose value an expression takes."""

_FIXED_CONSTANTS = {
    Op.CONST1U: (1, False), Op.CONST1S: (1, True), Op.CONST2U: (2, False), Op.CONST2S: (2, True),
    Op.CONST4U: (4, False), Op.CONST4S: (4, True), Op.CONST8U: (8, False), Op.CONST8S: (8, True),
}  # fmt: skip


def evaluate(
    expression: bytes,
    state: FrameState,
    unit: Unit,
    initial: Sequence[int] = (),
    object_address: int | None = None,
) -> Location:
    """The location that `expression`, from an entry of `unit`, gives in `state`.

    `initial` is what the stack begins with, the top last (DW_AT_data_member_location). Never raises
    Unavailable.
    """
    try:
        with damage_as_unavailable():
            return _evaluate(expression, state, unit, Budget(), initial, object_address)
    except Unavailable as why:
        return OptimizedOut() if why.reason is Reason.OPTIMIZED_OUT else UnknownLocation(why)


def _evaluate(
    expression: bytes,
    state: FrameState,
    unit: Unit,
    budget: Budget,
    initial: Sequence[int] = (),
    object_address: int | None = None,
) -> Location:
    if not expression:
        return OptimizedOut()
    machine = Machine(state, unit, OperandReader(expression, unit), budget, object_address)
    for value in initial:
        machine.push(value)
    _run(machine)
    if machine.pieces:
        if machine.place is not None:
            raise malformed("an expression goes on after its last piece")
        return PiecesLocation(tuple(machine.pieces))
    return _place(machine)


def _run(machine: Machine) -> None:
    """Run the machine's whole expression on its stack."""
    budget = machine.budget
    budget.depth += 1
    if budget.depth > _DEEPEST:
        raise unsupported("such deep nesting of expressions")
    while not machine.reader.at_end:
        budget.steps -= 1
        if budget.steps < 0:
            raise malformed("an expression does not end")
        op = machine.reader.fixed(1)
        if machine.place is not None and op not in (Op.PIECE, Op.BIT_PIECE, Op.GNU_UNINIT, Op.NOP):
            raise malformed("an expression goes on after its location")
        _step(machine, op)
    budget.depth -= 1


def _place(machine: Machine) -> Location:
    """The location so far: what an operation named, else the address on top of the stack."""
    if machine.place is not None:
        return machine.place
    top = machine.pop()
    if top.type is not None and top.type.is_float:
        raise malformed("a floating-point address")
    return MemoryLocation(top.bits & machine.state.architecture.address_mask)


def _step(machine: Machine, op: int) -> None:
    for group in (
        _constant,
        _register,
        _stack_operation,
        _arithmetic,
        _control,
        _memory,
        _typed,
        _location,
        _entry,
    ):
        if group(machine, op):
            return
    raise unsupported(f"DWARF operation {op:#x}")


def _constant(machine: Machine, op: int) -> bool:
    reader = machine.reader
    if Op.LIT0 <= op <= Op.LIT31:
        machine.push(op - Op.LIT0)
    elif op in _FIXED_CONSTANTS:
        size, signed = _FIXED_CONSTANTS[Op(op)]
        machine.push(reader.fixed(size, signed))
    elif op == Op.CONSTU:
        machine.push(reader.uleb128())
    elif op == Op.CONSTS:
        machine.push(reader.sleb128())
    elif op == Op.ADDR:
        machine.state.needs_process()
        machine.push(reader.fixed(machine.unit.address_size) + machine.state.bias)
    elif op in (Op.ADDRX, Op.GNU_ADDR_INDEX):
        machine.state.needs_process()
        machine.push(machine.unit.addrx(reader.uleb128()) + machine.state.bias)
    elif op in (Op.CONSTX, Op.GNU_CONST_INDEX):
        # The same table, but the value is not an address that moves with the module (§2.5.1.1).
        machine.push(machine.unit.addrx(reader.uleb128()))
    else:
        return False
    return True


def _register(machine: Machine, op: int) -> bool:
    reader, state = machine.reader, machine.state
    if Op.REG0 <= op <= Op.REG31:
        machine.place = RegisterLocation(op - Op.REG0)
    elif op == Op.REGX:
        machine.place = RegisterLocation(reader.uleb128())
    elif Op.BREG0 <= op <= Op.BREG31:
        machine.push(state.register(op - Op.BREG0) + reader.sleb128())
    elif op == Op.BREGX:
        register = reader.uleb128()
        machine.push(state.register(register) + reader.sleb128())
    elif op == Op.FBREG:
        offset = reader.sleb128()
        machine.push(_frame_base(machine) + offset)
    elif op == Op.CALL_FRAME_CFA:
        state.needs_process()
        if state.cfa is None:
            raise Unavailable(Reason.FRAME, "the canonical frame address of this frame is not known")
        machine.push(state.cfa)
    else:
        return False
    return True


def _frame_base(machine: Machine) -> int:
    function = machine.state.function()
    if function is None:
        raise Unavailable(Reason.FRAME, "the frame base is not known: the function has no debug information")
    expression = function.locations(At.FRAME_BASE, machine.state.pc)
    if not expression:
        raise Unavailable(Reason.FRAME, "the frame base is not described at this pc")
    place = _evaluate(expression, machine.state, function.unit, machine.budget)
    if isinstance(place, MemoryLocation):
        return place.address
    return Contents(place, machine.state).bits(8 * machine.state.architecture.address_size)


def _stack_operation(machine: Machine, op: int) -> bool:
    stack = machine.stack
    if op in (Op.DUP, Op.OVER, Op.PICK):
        depth = {Op.DUP: 0, Op.OVER: 1}.get(Op(op))
        depth = machine.reader.fixed(1) if depth is None else depth
        if depth >= len(stack):
            raise malformed("an expression takes from an empty stack")
        machine.push(stack[-1 - depth])
    elif op == Op.DROP:
        machine.pop()
    elif op == Op.SWAP:
        first, second = machine.pop(), machine.pop()
        stack += [first, second]
    elif op == Op.ROT:
        first, second, third = machine.pop(), machine.pop(), machine.pop()
        stack += [first, third, second]
    else:
        return False
    return True


def _arithmetic(machine: Machine, op: int) -> bool:
    if op in typed_value.BINARY_OPERATIONS:
        second, first = machine.pop(), machine.pop()
        machine.push(typed_value.binary(op, first, second))
    elif op in (Op.ABS, Op.NEG, Op.NOT):
        machine.push(typed_value.unary(op, machine.pop()))
    elif op == Op.PLUS_UCONST:
        value = machine.pop()
        addend = typed(machine.reader.uleb128(), value.type)
        machine.push(typed_value.binary(Op.PLUS, value, addend))
    else:
        return False
    return True


def _control(machine: Machine, op: int) -> bool:
    reader = machine.reader
    if op in (Op.NOP, Op.GNU_UNINIT):
        pass
    elif op == Op.SKIP:
        reader.jump(reader.fixed(2, signed=True))
    elif op == Op.BRA:
        distance = reader.fixed(2, signed=True)
        condition = machine.pop()
        if condition.type is not None and condition.type.is_float:
            raise malformed("a branch on a floating-point value")
        if condition.bits:
            reader.jump(distance)
    elif op in (Op.CALL2, Op.CALL4, Op.CALL_REF):
        # A reference had the size of an address in DWARF 2 (DWARF 3 §7.5.4, DW_FORM_ref_addr).
        whole = machine.unit.address_size if machine.unit.version == 2 else machine.unit.offset_size
        size = {Op.CALL2: 2, Op.CALL4: 4}.get(Op(op), whole)
        base = 0 if op == Op.CALL_REF else machine.unit.offset
        _call(machine, base + reader.fixed(size))
    else:
        return False
    return True


def _call(machine: Machine, offset: int) -> None:
    """Run another entry's DW_AT_location on this stack (§2.5.1.5); without one it has no effect."""
    die = die_at(machine.unit, offset)
    expression = die.locations(At.LOCATION, machine.state.pc)
    if not expression:
        return
    caller, caller_unit = machine.reader, machine.unit
    machine.reader, machine.unit = OperandReader(expression, die.unit), die.unit
    _run(machine)
    machine.reader, machine.unit = caller, caller_unit


def _memory(machine: Machine, op: int) -> bool:
    if op in (Op.DEREF, Op.DEREF_SIZE):
        size = machine.reader.fixed(1) if op == Op.DEREF_SIZE else machine.unit.address_size
        if size > 8:
            raise malformed("DW_OP_deref_size beyond the size of an address")
        machine.push(_read(machine, size))
    elif op == Op.PUSH_OBJECT_ADDRESS:
        if machine.object_address is None:
            raise Unavailable(Reason.UNSUPPORTED, "the address of the containing object is not known")
        machine.push(machine.object_address)
    elif op in (Op.FORM_TLS_ADDRESS, Op.GNU_PUSH_TLS_ADDRESS):
        raise Unavailable(Reason.THREAD_LOCAL)
    elif op in (Op.XDEREF, Op.XDEREF_SIZE, Op.XDEREF_TYPE):
        raise unsupported("an address space")
    else:
        return False
    return True


def _read(machine: Machine, size: int) -> int:
    return int.from_bytes(
        machine.state.memory(machine.pop().bits & machine.state.architecture.address_mask, size), "little"
    )


def _typed(machine: Machine, op: int) -> bool:
    reader = machine.reader
    if op in (Op.CONST_TYPE, Op.GNU_CONST_TYPE):
        type_ = base_type(machine)
        data = reader.block(reader.fixed(1))
        machine.push(TypedValue(int.from_bytes(_exactly(data, type_), "little"), type_))
    elif op in (Op.REGVAL_TYPE, Op.GNU_REGVAL_TYPE):
        register = reader.uleb128()
        type_ = base_type(machine)
        if type_ is not None and type_.is_float and is_x87(machine.state, register):
            machine.push(TypedValue(float_in_register(machine.state, register, type_.size), type_))
            return True
        data = machine.state.register_bytes(register)
        size = type_.size if type_ else 8
        if size > len(data):
            raise malformed("a register is smaller than its type")
        machine.push(TypedValue(int.from_bytes(data[:size], "little"), type_))
    elif op in (Op.DEREF_TYPE, Op.GNU_DEREF_TYPE):
        size = reader.fixed(1)
        type_ = base_type(machine)
        if size != (type_.size if type_ else 8):
            raise malformed("DW_OP_deref_type of another size than its type's")
        machine.push(typed(_read(machine, size), type_))
    elif op in (Op.CONVERT, Op.GNU_CONVERT):
        machine.push(typed_value.converted(machine.pop(), base_type(machine)))
    elif op in (Op.REINTERPRET, Op.GNU_REINTERPRET):
        machine.push(typed_value.reinterpreted(machine.pop(), base_type(machine)))
    else:
        return False
    return True


def _exactly(data: bytes, type_: BaseType | None) -> bytes:
    if len(data) != (type_.size if type_ else 8):
        raise malformed("a constant is not of its type's size")
    return data


def _location(machine: Machine, op: int) -> bool:
    reader = machine.reader
    if op == Op.STACK_VALUE:
        value = machine.pop()
        machine.place = ValueLocation(value.bits.to_bytes(value.size, "little"))
    elif op == Op.IMPLICIT_VALUE:
        machine.place = ValueLocation(reader.block(reader.uleb128()))
    elif op in (Op.IMPLICIT_POINTER, Op.GNU_IMPLICIT_POINTER):
        size = machine.unit.address_size if machine.unit.version == 2 else machine.unit.offset_size
        target = die_at(machine.unit, reader.fixed(size))
        machine.place = ImplicitPointerLocation(target, reader.sleb128())
    elif op == Op.PIECE:
        _add_piece(machine, 8 * reader.uleb128(), 0)
    elif op == Op.BIT_PIECE:
        size = reader.uleb128()
        _add_piece(machine, size, reader.uleb128())
    else:
        return False
    return True


def _add_piece(machine: Machine, bit_size: int, bit_offset: int) -> None:
    if len(machine.pieces) >= _MOST_PIECES:
        raise malformed("an object of too many pieces")
    if machine.place is None and not machine.stack:
        location: Location = OptimizedOut()
    else:
        location = _place(machine)
    machine.pieces.append(Piece(location, bit_size, bit_offset))
    machine.place = None


def _entry(machine: Machine, op: int) -> bool:
    reader = machine.reader
    if op in (Op.ENTRY_VALUE, Op.GNU_ENTRY_VALUE):
        push_entry_value(machine, reader.block(reader.uleb128()), _evaluate_value)
    elif op == Op.GNU_PARAMETER_REF:
        push_parameter(machine, reader.fixed(4), _evaluate_value)
    elif op == Op.GNU_VARIABLE_VALUE:
        size = machine.unit.address_size if machine.unit.version == 2 else machine.unit.offset_size
        machine.push(_value_of(die_at(machine.unit, reader.fixed(size)), machine))
    else:
        return False
    return True


def _value_of(variable: Die, machine: Machine) -> int:
    """The integer or address that a variable holds in this frame (a GNU extension; no section of DWARF 5)."""
    type_ = stripped(type_of(variable))
    if type_ is None or type_.tag not in (Tag.BASE_TYPE, Tag.POINTER_TYPE, Tag.ENUMERATION_TYPE):
        raise unsupported("an expression on a variable that is no integer")
    size = size_of(type_)
    if not 0 < size <= _LARGEST_VALUE:
        raise malformed("an operand names no integer")
    expression = variable.locations(At.LOCATION, machine.state.pc)
    if expression is None:
        constant = variable.inherited(At.CONST_VALUE)
        if type(constant) is not int:
            raise optimized_out()
        bits = constant & ((1 << 8 * size) - 1)
    else:
        bits = Contents(_evaluate(expression, machine.state, variable.unit, machine.budget), machine.state).bits(
            8 * size
        )
    signed = type_.tag == Tag.BASE_TYPE and encoding_of(type_) in (Encoding.SIGNED, Encoding.SIGNED_CHAR)
    return sign_extended(bits, 8 * size) if signed else bits


def evaluate_value(expression: bytes, state: FrameState, unit: Unit, object_address: int | None = None) -> TypedValue:
    """The value, not a location, that an attribute's expression gives (§2.19). Raises Unavailable."""
    with damage_as_unavailable():
        return _evaluate_value(expression, state, unit, Budget(), object_address)


def _evaluate_value(
    expression: bytes, state: FrameState, unit: Unit, budget: Budget, object_address: int | None = None
) -> TypedValue:
    """What a DWARF expression that gives a value, not a location, leaves on top of the stack (§2.5).

    gcc also writes whole locations there: a register stands for its content, an implicit value for itself.
    """
    if not expression:
        raise optimized_out()
    machine = Machine(state, unit, OperandReader(expression, unit), budget, object_address)
    _run(machine)
    if machine.pieces:
        raise unsupported("a value in pieces")
    place = machine.place
    if place is None:
        return machine.pop()
    if isinstance(place, ValueLocation):
        data = place.data
        type_ = None if len(data) == state.architecture.address_size else BaseType(len(data), Encoding.UNSIGNED)
        return TypedValue(int.from_bytes(data, "little"), type_)
    return typed(Contents(place, state).bits(8 * state.architecture.address_size), generic_type(unit))
