"""DWARF expressions and location descriptions, versions 2 to 5 with GNU's forms of DWARF 4 (DWARF 5 §2.5,
§2.6).

`evaluate` runs an expression in a frame's state and gives a Location. Steps, the depth of calls and the
stack are bounded. What an expression needs and the state lacks ends it as UnknownLocation with the cause;
damage does too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from unwind.arguments import call_site, typed_value
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
from unwind.arguments.operand_reader import OperandReader
from unwind.arguments.typed_value import BaseType, TypedValue, typed
from unwind.arguments.unavailable import (
    Reason,
    Unavailable,
    damage_as_unavailable,
    malformed,
    optimized_out,
    unsupported,
)
from unwind.dwarf.die import Die, Unit
from unwind.dwarf.enumeration import At, Encoding, Op, Tag

_MOST_STEPS = 10_000
_MOST_STACK = 1_000
_MOST_PIECES = 4_096
_DEEPEST = 24

_FIXED_CONSTANTS = {
    Op.CONST1U: (1, False), Op.CONST1S: (1, True), Op.CONST2U: (2, False), Op.CONST2S: (2, True),
    Op.CONST4U: (4, False), Op.CONST4S: (4, True), Op.CONST8U: (8, False), Op.CONST8S: (8, True),
}  # fmt: skip


@dataclass(slots=True)
class _Budget:
    """What is left to spend on one outermost expression, shared with those that it calls."""

    steps: int = _MOST_STEPS
    depth: int = 0


@dataclass(slots=True)
class _Machine:
    """One expression being run."""

    state: FrameState
    unit: Unit
    reader: OperandReader
    budget: _Budget
    object_address: int | None = None
    stack: list[TypedValue] = field(default_factory=list)
    place: Location | None = None
    """Set by an operation that names the whole location at once; only a piece may follow it."""
    pieces: list[Piece] = field(default_factory=list)

    def push(self, value: TypedValue | int) -> None:
        if len(self.stack) >= _MOST_STACK:
            raise malformed("an expression's stack grows without bound")
        self.stack.append(typed(value) if isinstance(value, int) else value)

    def pop(self) -> TypedValue:
        if not self.stack:
            raise malformed("an expression takes from an empty stack")
        return self.stack.pop()


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
            return _evaluate(expression, state, unit, _Budget(), initial, object_address)
    except Unavailable as why:
        return OptimizedOut() if why.reason is Reason.OPTIMIZED_OUT else UnknownLocation(why)


def _evaluate(
    expression: bytes,
    state: FrameState,
    unit: Unit,
    budget: _Budget,
    initial: Sequence[int] = (),
    object_address: int | None = None,
) -> Location:
    if not expression:
        return OptimizedOut()
    machine = _Machine(state, unit, OperandReader(expression, unit), budget, object_address)
    for value in initial:
        machine.push(value)
    _run(machine)
    if machine.pieces:
        if machine.place is not None:
            raise malformed("an expression goes on after its last piece")
        return PiecesLocation(tuple(machine.pieces))
    return _place(machine)


def _run(machine: _Machine) -> None:
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


def _place(machine: _Machine) -> Location:
    """The location so far: what an operation named, else the address on top of the stack."""
    if machine.place is not None:
        return machine.place
    top = machine.pop()
    if top.type is not None and top.type.is_float:
        raise malformed("a floating-point address")
    return MemoryLocation(top.bits & 0xFFFF_FFFF_FFFF_FFFF)


def _step(machine: _Machine, op: int) -> None:
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


def _constant(machine: _Machine, op: int) -> bool:
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
        machine.push(reader.fixed(machine.unit.address_size) + machine.state.bias)
    elif op in (Op.ADDRX, Op.GNU_ADDR_INDEX):
        machine.push(machine.unit.addrx(reader.uleb128()) + machine.state.bias)
    elif op in (Op.CONSTX, Op.GNU_CONST_INDEX):
        # The same table, but the value is not an address that moves with the module (§2.5.1.1).
        machine.push(machine.unit.addrx(reader.uleb128()))
    else:
        return False
    return True


def _register(machine: _Machine, op: int) -> bool:
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
        if state.cfa is None:
            raise Unavailable(Reason.FRAME, "the canonical frame address of this frame is not known")
        machine.push(state.cfa)
    else:
        return False
    return True


def _frame_base(machine: _Machine) -> int:
    function = machine.state.function()
    if function is None:
        raise Unavailable(Reason.FRAME, "the frame base is not known: the function has no debug information")
    expression = function.locations(At.FRAME_BASE, machine.state.pc)
    if not expression:
        raise Unavailable(Reason.FRAME, "the frame base is not described at this pc")
    place = _evaluate(expression, machine.state, function.unit, machine.budget)
    if isinstance(place, MemoryLocation):
        return place.address
    return Contents(place, machine.state).bits(64)


def _stack_operation(machine: _Machine, op: int) -> bool:
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


def _arithmetic(machine: _Machine, op: int) -> bool:
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


def _control(machine: _Machine, op: int) -> bool:
    reader = machine.reader
    if op in (Op.NOP, Op.GNU_UNINIT):
        pass
    elif op == Op.SKIP:
        reader.jump(reader.fixed(2, signed=True))
    elif op == Op.BRA:
        distance = reader.fixed(2, signed=True)
        if machine.pop().bits:
            reader.jump(distance)
    elif op in (Op.CALL2, Op.CALL4, Op.CALL_REF):
        size = {Op.CALL2: 2, Op.CALL4: 4}.get(Op(op), machine.unit.offset_size)
        base = 0 if op == Op.CALL_REF else machine.unit.offset
        _call(machine, base + reader.fixed(size))
    else:
        return False
    return True


def _call(machine: _Machine, offset: int) -> None:
    """Run another entry's DW_AT_location on this stack (§2.5.1.5); without one it has no effect."""
    die = _die_at(machine.unit, offset)
    expression = die.locations(At.LOCATION, machine.state.pc)
    if not expression:
        return
    caller, caller_unit = machine.reader, machine.unit
    machine.reader, machine.unit = OperandReader(expression, die.unit), die.unit
    _run(machine)
    machine.reader, machine.unit = caller, caller_unit


def _die_at(unit: Unit, offset: int) -> Die:
    die = unit.die_at(offset)
    if die is None:
        raise malformed(f"no entry at {offset:#x}")
    return die


def _memory(machine: _Machine, op: int) -> bool:
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


def _read(machine: _Machine, size: int) -> int:
    return int.from_bytes(machine.state.memory(machine.pop().bits & 0xFFFF_FFFF_FFFF_FFFF, size), "little")


def _typed(machine: _Machine, op: int) -> bool:
    reader = machine.reader
    if op in (Op.CONST_TYPE, Op.GNU_CONST_TYPE):
        type_ = _base_type(machine)
        data = reader.block(reader.fixed(1))
        machine.push(TypedValue(int.from_bytes(_exactly(data, type_), "little"), type_))
    elif op in (Op.REGVAL_TYPE, Op.GNU_REGVAL_TYPE):
        register = reader.uleb128()
        type_ = _base_type(machine)
        data = machine.state.register_bytes(register)
        size = type_.size if type_ else 8
        if size > len(data):
            raise malformed("a register is smaller than its type")
        machine.push(TypedValue(int.from_bytes(data[:size], "little"), type_))
    elif op in (Op.DEREF_TYPE, Op.GNU_DEREF_TYPE):
        size = reader.fixed(1)
        type_ = _base_type(machine)
        machine.push(typed(_read(machine, size), type_))
    elif op in (Op.CONVERT, Op.GNU_CONVERT):
        machine.push(typed_value.converted(machine.pop(), _base_type(machine)))
    elif op in (Op.REINTERPRET, Op.GNU_REINTERPRET):
        machine.push(typed_value.reinterpreted(machine.pop(), _base_type(machine)))
    else:
        return False
    return True


def _base_type(machine: _Machine) -> BaseType | None:
    """The type that an operand names by its offset in the unit; 0 is the generic type."""
    return _base_type_at(machine.unit, machine.reader.uleb128())


def _base_type_at(unit: Unit, offset: int) -> BaseType | None:
    if not offset:
        return None
    die = _die_at(unit, unit.offset + offset)
    size, encoding = die.get(At.BYTE_SIZE), die.get(At.ENCODING)
    if die.tag != Tag.BASE_TYPE or type(size) is not int or type(encoding) is not int or not 0 < size <= 64:
        raise malformed("an operand names no base type")
    if encoding in (Encoding.COMPLEX_FLOAT,):
        raise unsupported("complex arithmetic in an expression")
    return BaseType(size, encoding)


def _exactly(data: bytes, type_: BaseType | None) -> bytes:
    if len(data) != (type_.size if type_ else 8):
        raise malformed("a constant is not of its type's size")
    return data


def _location(machine: _Machine, op: int) -> bool:
    reader = machine.reader
    if op == Op.STACK_VALUE:
        value = machine.pop()
        machine.place = ValueLocation(value.bits.to_bytes(value.size, "little"))
    elif op == Op.IMPLICIT_VALUE:
        machine.place = ValueLocation(reader.block(reader.uleb128()))
    elif op in (Op.IMPLICIT_POINTER, Op.GNU_IMPLICIT_POINTER):
        size = machine.unit.address_size if machine.unit.version == 2 else machine.unit.offset_size
        target = _die_at(machine.unit, reader.fixed(size))
        machine.place = ImplicitPointerLocation(target, reader.sleb128())
    elif op == Op.PIECE:
        _add_piece(machine, 8 * reader.uleb128(), 0)
    elif op == Op.BIT_PIECE:
        size = reader.uleb128()
        _add_piece(machine, size, reader.uleb128())
    else:
        return False
    return True


def _add_piece(machine: _Machine, bit_size: int, bit_offset: int) -> None:
    if len(machine.pieces) >= _MOST_PIECES:
        raise malformed("an object of too many pieces")
    if machine.place is None and not machine.stack:
        location: Location = OptimizedOut()
    else:
        location = _place(machine)
    machine.pieces.append(Piece(location, bit_size, bit_offset))
    machine.place = None


def _entry(machine: _Machine, op: int) -> bool:
    reader = machine.reader
    if op in (Op.ENTRY_VALUE, Op.GNU_ENTRY_VALUE):
        block = reader.block(reader.uleb128())
        _push_entry_value(machine, block)
    elif op == Op.GNU_PARAMETER_REF:
        formal_parameter = _die_at(machine.unit, machine.unit.offset + reader.fixed(4))
        site = _call_site(machine)
        parameter = call_site.parameter_for_entry(site.die, formal_parameter)
        _push_passed(machine, site, call_site.passed_value(parameter), parameter)
    else:
        return False
    return True


def _push_entry_value(machine: _Machine, block: bytes) -> None:
    """DW_OP_entry_value of a register, or of what a register pointed to (§2.5.1.7)."""
    inner = OperandReader(block, machine.unit)
    op = inner.fixed(1)
    size: int | None = None
    type_: BaseType | None = None
    if Op.REG0 <= op <= Op.REG31:
        register = op - Op.REG0
    elif op == Op.REGX:
        register = inner.uleb128()
    elif op in (Op.REGVAL_TYPE, Op.GNU_REGVAL_TYPE):
        register = inner.uleb128()
        type_ = _base_type_at(machine.unit, inner.uleb128())
    elif Op.BREG0 <= op <= Op.BREG31:
        register = op - Op.BREG0
        if inner.sleb128() != 0:
            raise unsupported("DW_OP_entry_value of an address that is not a register's value")
        dereference = inner.fixed(1)
        if dereference not in (Op.DEREF, Op.DEREF_SIZE):
            raise unsupported("such a DW_OP_entry_value")
        size = inner.fixed(1) if dereference == Op.DEREF_SIZE else machine.unit.address_size
    else:
        raise unsupported("such a DW_OP_entry_value")
    if not inner.at_end:
        raise unsupported("such a DW_OP_entry_value")
    site = _call_site(machine)
    parameter = call_site.parameter_for_register(site.die, register)
    value = call_site.passed_value if size is None else call_site.passed_data_value
    _push_passed(machine, site, value(parameter), parameter, size, type_)


def _call_site(machine: _Machine) -> call_site.CallSite:
    budget = machine.budget

    def address_of(expression: bytes, state: FrameState, site: Die) -> int:
        return _evaluate_value(expression, state, site.unit, budget).bits

    return call_site.call_site_of(machine.state, address_of)


def _push_passed(
    machine: _Machine,
    site: call_site.CallSite,
    expression: bytes | None,
    parameter: Die | None,
    size: int | None = None,
    type_: BaseType | None = None,
) -> None:
    if expression is None or parameter is None:
        raise Unavailable(Reason.ENTRY_VALUE, "value at function entry is not known: the caller does not describe it")
    value = _evaluate_value(expression, site.caller, parameter.unit, machine.budget)
    if type_ is not None and value.type != type_:
        if value.size != type_.size:
            raise malformed("a value at function entry is not of its type's size")
        value = TypedValue(value.bits, type_)
    machine.push(value if size is None else value.bits & ((1 << 8 * size) - 1))


def _evaluate_value(expression: bytes, state: FrameState, unit: Unit, budget: _Budget) -> TypedValue:
    """What a DWARF expression that gives a value, not a location, leaves on top of the stack (§2.5).

    gcc also writes whole locations there: a register stands for its content, an implicit value for itself.
    """
    if not expression:
        raise optimized_out()
    machine = _Machine(state, unit, OperandReader(expression, unit), budget)
    _run(machine)
    if machine.pieces:
        raise unsupported("a value at function entry in pieces")
    place = machine.place
    if place is None:
        return machine.pop()
    if isinstance(place, ValueLocation):
        data = place.data
        type_ = None if len(data) == 8 else BaseType(len(data), Encoding.UNSIGNED)
        return TypedValue(int.from_bytes(data, "little"), type_)
    return typed(Contents(place, state).bits(64))
