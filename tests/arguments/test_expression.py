"""DWARF operations one by one, against Python's own arithmetic."""

from __future__ import annotations

import math
import operator
import random
import struct
from dataclasses import dataclass, field
from fractions import Fraction
from types import SimpleNamespace

import pytest

from unwind.arguments import floating_point
from unwind.arguments.expression import evaluate
from unwind.arguments.frame_state import FrameState, state_of_address
from unwind.arguments.location import (
    Contents,
    MemoryLocation,
    OptimizedOut,
    RegisterLocation,
    UnknownLocation,
    ValueLocation,
)
from unwind.arguments.unavailable import Reason
from unwind.dwarf.enumeration import At, Encoding, Op, Tag

MASK = (1 << 64) - 1


@dataclass(eq=False)
class StandInDie:
    """An entry with the few attributes that an expression asks for."""

    offset: int
    tag: int = Tag.BASE_TYPE
    attributes: dict[int, object] = field(default_factory=dict)
    unit: object = None
    expression: bytes | None = None

    def get(self, attribute):
        return self.attributes.get(attribute)

    def locations(self, attribute, pc):
        return self.expression


class StandInUnit:
    offset, version, address_size, offset_size, language = 0x100, 5, 8, 4, 0x0C

    def __init__(self, *dies):
        self.dies = {die.offset: die for die in dies}
        for die in dies:
            die.unit = self

    def die_at(self, offset):
        return self.dies.get(offset)

    def addrx(self, index):
        return 0x1000 + 8 * index


def base(offset, size, encoding):
    return StandInDie(0x100 + offset, Tag.BASE_TYPE, {At.BYTE_SIZE: size, At.ENCODING: int(encoding)})


INT, FLOAT, DOUBLE, BYTE, WIDE, UINT, LONG_DOUBLE = 1, 2, 3, 4, 5, 6, 7
UNIT = StandInUnit(
    base(INT, 4, Encoding.SIGNED), base(FLOAT, 4, Encoding.FLOAT), base(DOUBLE, 8, Encoding.FLOAT),
    base(BYTE, 1, Encoding.SIGNED), base(WIDE, 16, Encoding.SIGNED), base(UINT, 4, Encoding.UNSIGNED),
    base(LONG_DOUBLE, 16, Encoding.FLOAT), StandInDie(0x140, Tag.VARIABLE, expression=bytes([Op.PLUS_UCONST, 3])),
)  # fmt: skip


def state(**changes):
    values = {
        "registers": [0x1000 * (n + 1) for n in range(17)],
        "known": (1 << 17) - 1,
        "cfa": 0x7000,
        "pc": 0x400,
        "bias": 0x5000_0000,
        "read": lambda address, size: bytes((address + n) & 0xFF for n in range(size)),
    }
    return FrameState(**{**values, **changes})


def run(*parts, state=state(), unit=UNIT):  # noqa: B008
    code = b"".join(bytes([part]) if isinstance(part, int) else part for part in parts)
    return evaluate(code, state, unit)


def constant(value):
    return bytes([Op.CONST8U]) + (value & MASK).to_bytes(8, "little")


def typed_constant(type_, data):
    return bytes([Op.CONST_TYPE, type_, len(data)]) + data


def value(*parts, size=8):
    location = run(*parts, Op.STACK_VALUE)
    assert isinstance(location, ValueLocation), location
    assert len(location.data) == size
    return int.from_bytes(location.data, "little")


def signed(number, bits=64):
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> (bits - 1) else number


def quotient(a, b):
    return math.trunc(Fraction(a, b))


INTERESTING = [0, 1, 2, 7, 63, 64, 1 << 31, (1 << 63) - 1, 1 << 63, MASK, MASK - 6, 0x1234_5678_9ABC_DEF0]
GENERIC = {
    Op.PLUS: operator.add, Op.MINUS: operator.sub, Op.MUL: operator.mul, Op.AND: operator.and_, Op.OR: operator.or_,
    Op.XOR: operator.xor,
    Op.DIV: lambda a, b: quotient(signed(a), signed(b)),
    Op.MOD: lambda a, b: a % b,
    Op.SHL: lambda a, b: a << b if b < 64 else 0,
    Op.SHR: lambda a, b: a >> b if b < 64 else 0,
    Op.SHRA: lambda a, b: signed(a) >> min(b, 64),
    Op.EQ: lambda a, b: a == b, Op.NE: lambda a, b: a != b,
    Op.LT: lambda a, b: signed(a) < signed(b), Op.LE: lambda a, b: signed(a) <= signed(b),
    Op.GT: lambda a, b: signed(a) > signed(b), Op.GE: lambda a, b: signed(a) >= signed(b),
}  # fmt: skip


@pytest.mark.parametrize("op", GENERIC, ids=lambda op: op.name)
def test_generic_arithmetic_wraps(op):
    for a in INTERESTING:
        for b in INTERESTING:
            if op in (Op.DIV, Op.MOD) and b == 0:
                assert isinstance(run(constant(a), constant(b), op), UnknownLocation)
            else:
                assert value(constant(a), constant(b), op) == GENERIC[op](a, b) & MASK, (hex(a), hex(b))


def test_generic_unary():
    for a in INTERESTING:
        assert value(constant(a), Op.NEG) == -a & MASK
        assert value(constant(a), Op.NOT) == ~a & MASK
        assert value(constant(a), Op.ABS) == abs(signed(a)) & MASK
        assert value(constant(a), Op.PLUS_UCONST, b"\x85\x01") == a + 0x85 & MASK


@pytest.mark.parametrize(("type_", "bits", "is_signed"), [(INT, 32, True), (UINT, 32, False), (BYTE, 8, True)])
def test_typed_integers_wrap_at_their_own_size(type_, bits, is_signed):
    chance = random.Random(bits)
    read = (lambda n: signed(n, bits)) if is_signed else (lambda n: n)
    for _ in range(200):
        a, b = chance.getrandbits(bits), chance.getrandbits(bits) or 1
        pair = [typed_constant(type_, n.to_bytes(bits // 8, "little")) for n in (a, b)]
        for op, expected in (
            (Op.PLUS, a + b), (Op.MUL, a * b), (Op.DIV, quotient(read(a), read(b))),
            (Op.MOD, read(a) - read(b) * quotient(read(a), read(b))), (Op.SHRA, signed(a, bits) >> min(b, bits)),
        ):  # fmt: skip
            assert value(*pair, op, size=bits // 8) == expected & ((1 << bits) - 1)
        assert value(*pair, Op.LT) == (read(a) < read(b))


@pytest.mark.parametrize(("type_", "code"), [(FLOAT, "<f"), (DOUBLE, "<d")])
def test_float_arithmetic(type_, code):
    chance = random.Random(5)
    size = struct.calcsize(code)

    def rounded(number):
        return struct.pack(code, number)

    for _ in range(200):
        a, b = (struct.unpack(code, rounded(chance.uniform(-1e6, 1e6)))[0] for _ in range(2))
        pair = [typed_constant(type_, rounded(n)) for n in (a, b)]
        for op, apply in (
            (Op.PLUS, operator.add), (Op.MINUS, operator.sub), (Op.MUL, operator.mul), (Op.DIV, operator.truediv),
        ):  # fmt: skip
            assert value(*pair, op, size=size) == int.from_bytes(rounded(apply(a, b)), "little")
        assert value(*pair, Op.GT) == (a > b)
        assert value(pair[0], Op.NEG, size=size) == int.from_bytes(rounded(-a), "little")


def test_conversions():
    data = struct.pack("<d", -3.75)
    assert signed(value(typed_constant(DOUBLE, data), Op.CONVERT, INT, size=4), 32) == -3
    as_float = value(typed_constant(DOUBLE, struct.pack("<d", 0.1)), Op.CONVERT, FLOAT, size=4)
    assert as_float == int.from_bytes(struct.pack("<f", 0.1), "little")
    assert value(typed_constant(BYTE, b"\xfb"), Op.CONVERT, 0) == -5 & MASK
    assert value(typed_constant(BYTE, b"\xfb"), Op.CONVERT, WIDE, size=16) == -5 & ((1 << 128) - 1)
    assert value(typed_constant(DOUBLE, data), Op.REINTERPRET, 0) == int.from_bytes(data, "little")
    assert isinstance(run(typed_constant(DOUBLE, data), Op.REINTERPRET, INT), UnknownLocation)
    assert isinstance(run(typed_constant(DOUBLE, data), typed_constant(INT, b"\0\0\0\0"), Op.PLUS), UnknownLocation)


def test_long_double_rounds_to_64_bits():
    third = floating_point.encode(Fraction(1, 3), 16)
    exponent = 0x3FFF - 2
    assert third == exponent << 64 | round(Fraction(1, 3) * 2**65)
    assert floating_point.decode(third, 16) == Fraction(round(Fraction(1, 3) * 2**65), 2**65)
    for number in (0.0, -0.0, 1.5, -2.25, 5e-324, 1.7e308, math.inf):
        for size, code in ((4, "<f"), (8, "<d")):
            try:
                packed = struct.pack(code, number)
            except OverflowError:
                packed = struct.pack(code, math.inf)
            assert floating_point.encode(number, size) == int.from_bytes(packed, "little"), (number, size)


def test_stack_operations():
    assert value(Op.LIT0 + 5, Op.LIT0 + 7, Op.SWAP, Op.MINUS) == 2
    # The top moves to the third place (DWARF 5 §2.5.1.3).
    assert value(Op.LIT0 + 1, Op.LIT0 + 2, Op.LIT0 + 3, Op.ROT, Op.DROP, Op.DROP) == 3
    assert value(Op.LIT0 + 9, Op.LIT0 + 2, Op.OVER) == 9
    assert value(Op.LIT0 + 9, Op.LIT0 + 2, Op.PICK, 1) == 9
    assert isinstance(run(Op.PLUS), UnknownLocation)


def test_registers_and_memory():
    assert run(Op.REG0 + 5) == RegisterLocation(5)
    assert run(Op.BREG0 + 7, b"\x78") == MemoryLocation(0x8000 - 8)
    assert run(Op.CALL_FRAME_CFA) == MemoryLocation(0x7000)
    assert run(Op.ADDR, (0x10).to_bytes(8, "little")) == MemoryLocation(0x5000_0010)
    assert run(Op.ADDRX, 2) == MemoryLocation(0x5000_1010)
    assert run(Op.CONSTX, 2) == MemoryLocation(0x1010)
    assert value(Op.BREG0 + 0, 0, Op.DEREF_SIZE, 2) == 0x0100
    unknown = run(Op.BREG0 + 5, 0, state=state(known=~(1 << 5)))
    assert str(unknown.why) == "register rdi is not recovered in this frame"
    assert unknown.why.reason is Reason.REGISTER
    unread = run(Op.BREG0 + 0, 0, Op.DEREF, state=state(read=lambda address, size: b"\1\2"))
    assert str(unread.why) == "memory at 0x1002 not captured"
    vector = Contents(RegisterLocation(17), state())
    with pytest.raises(Exception, match="floating-point registers are not captured"):
        vector.bits(64)
    assert Contents(RegisterLocation(17), state(vector_registers={17: bytes(range(16))})).bits(16, 8) == 0x0201
    assert isinstance(run(Op.LIT0, Op.FORM_TLS_ADDRESS), UnknownLocation)


def test_branches_are_bounded():
    body = bytes([Op.SWAP, Op.OVER, Op.PLUS, Op.SWAP, Op.LIT0 + 1, Op.MINUS, Op.DUP, Op.BRA])
    loop = body + (-(len(body) + 2)).to_bytes(2, "little", signed=True)
    assert run(Op.LIT0, Op.LIT0 + 5, loop, Op.DROP) == MemoryLocation(sum(range(6)))
    endless = bytes([Op.SKIP]) + (-3).to_bytes(2, "little", signed=True)
    assert "does not end" in str(run(endless).why)
    assert run(Op.LIT0 + 4, Op.LIT0 + 1, Op.BRA, b"\1\0", Op.NOP, Op.NOP) == MemoryLocation(4)
    assert isinstance(run(Op.SKIP, b"\x40\0"), UnknownLocation)
    growing = bytes([Op.LIT0, Op.SKIP]) + (-4).to_bytes(2, "little", signed=True)
    assert isinstance(run(growing), UnknownLocation)


def test_a_variables_value():
    variable = StandInDie(0x150, Tag.VARIABLE, expression=bytes([Op.BREG0 + 3, 0]))
    unit = StandInUnit(base(INT, 4, Encoding.SIGNED), variable)
    variable.inherited_reference = lambda attribute: SimpleNamespace(
        tag=Tag.BASE_TYPE, get=unit.dies[0x101].get, unit=unit, reference=lambda attribute: None
    )
    code = bytes([Op.GNU_VARIABLE_VALUE]) + (0x150).to_bytes(4, "little") + bytes([Op.STACK_VALUE])
    for number in (5, -5):
        there = state(read=lambda address, size, n=number: n.to_bytes(size, "little", signed=True))
        assert evaluate(code, there, unit) == ValueLocation((number & MASK).to_bytes(8, "little"))


def entry_value(*parts):
    inner = b"".join(bytes([part]) if isinstance(part, int) else part for part in parts)
    return bytes([Op.ENTRY_VALUE, len(inner)]) + inner


def test_registers_that_calls_preserve_had_at_entry_what_the_caller_has():
    caller = state(registers=[0x9000 + n for n in range(17)])
    inside = state(caller=lambda: caller)
    at_entry = {**dict.fromkeys((3, 6, 12, 13, 14, 15)), 7: 0x7000 - 8}
    for register, told in at_entry.items():
        location = run(entry_value(Op.REG0 + register), Op.STACK_VALUE, state=inside)
        assert location == ValueLocation((told or 0x9000 + register).to_bytes(8, "little"))
    computed = run(entry_value(Op.BREG0 + 3, 8, Op.BREG0 + 7, 0, Op.PLUS), Op.STACK_VALUE, state=inside)
    assert computed == ValueLocation((0x9003 + 8 + 0x7000 - 8).to_bytes(8, "little"))
    for unknown in (
        run(entry_value(Op.REG0 + 5), state=inside),
        run(entry_value(Op.REG0 + 3), state=state()),
        run(entry_value(Op.BREG0 + 3, 8, Op.DEREF), state=inside),
        run(entry_value(Op.BREG0 + 5, 8), state=inside),
    ):
        assert isinstance(unknown, UnknownLocation)


def test_operations_that_contradict_their_types_are_refused():
    assert isinstance(run(Op.BREG0, 0, Op.DEREF_TYPE, 8, INT), UnknownLocation)
    assert value(Op.BREG0, 0, Op.DEREF_TYPE, 4, INT, size=4) == 0x03020100
    not_zero = typed_constant(DOUBLE, struct.pack("<d", -0.0))
    assert isinstance(run(Op.LIT0, not_zero, Op.BRA, b"\0\0"), UnknownLocation)


def test_an_address_without_a_process_gives_constants_only():
    nothing = state_of_address(0x400, None)
    assert run(Op.LIT0 + 5, Op.STACK_VALUE, state=nothing) == ValueLocation((5).to_bytes(8, "little"))
    for code in (
        (Op.BREG0, 0), (Op.ADDR, bytes(8)), (Op.ADDRX, 1), (Op.CALL_FRAME_CFA,), (Op.LIT0, Op.DEREF),
        (entry_value(Op.REG0 + 5),), (Op.REG0 + 17, Op.PIECE, 8, Op.BREG0, 0, Op.PIECE, 8),
    ):  # fmt: skip
        location = run(*code, state=nothing)
        assert isinstance(location, UnknownLocation), code
        assert location.why.reason is Reason.NO_PROCESS


def plain_reading(code):
    """The stack after stack and generic arithmetic operations, one by one as DWARF 5 §2.5.1 says them."""
    stack, at = [], 0
    while at < len(code):
        op = code[at]
        at += 1
        if Op.LIT0 <= op <= Op.LIT31:
            stack.append(op - Op.LIT0)
        elif op == Op.CONST1S:
            stack.append(signed(code[at], 8) & MASK)
            at += 1
        elif op == Op.PICK:
            stack.append(stack[-1 - code[at]])
            at += 1
        elif op == Op.DUP:
            stack.append(stack[-1])
        elif op == Op.OVER:
            stack.append(stack[-2])
        elif op == Op.DROP:
            stack.pop()
        elif op == Op.SWAP:
            stack[-2:] = [stack[-1], stack[-2]]
        elif op == Op.ROT:
            stack[-3:] = [stack[-1], stack[-3], stack[-2]]
        else:
            second, first = stack.pop(), stack.pop()
            stack.append(GENERIC[op](first, second) & MASK)
    return stack[-1]


def test_random_programs_give_what_a_plain_reading_gives():
    chance = random.Random(11)
    operations = [*range(Op.LIT0, Op.LIT31 + 1), *[Op.CONST1S] * 8, Op.PICK, Op.DUP, Op.OVER, Op.DROP, Op.SWAP, Op.ROT]
    operations += [*GENERIC] * 2
    compared = 0
    for _ in range(3_000):
        code = bytearray()
        for _ in range(chance.randrange(1, 30)):
            op = chance.choice(operations)
            code.append(op)
            if op in (Op.CONST1S, Op.PICK):
                code.append(chance.randrange(256 if op == Op.CONST1S else 3))
        location = run(bytes(code))
        try:
            expected = plain_reading(bytes(code))
        except (IndexError, ZeroDivisionError, ValueError):
            assert isinstance(location, UnknownLocation), code.hex()
            continue
        assert location == MemoryLocation(expected), code.hex()
        compared += 1
    assert compared > 100


def test_call_runs_another_entry_on_the_same_stack():
    assert run(Op.LIT0 + 5, Op.CALL2, b"\x40\0") == MemoryLocation(8)
    assert run(Op.LIT0 + 5, Op.CALL4, b"\x40\0\0\0") == MemoryLocation(8)


def test_pieces():
    location = run(Op.REG0, Op.PIECE, 4, Op.PIECE, 2, Op.LIT0 + 9, Op.STACK_VALUE, Op.BIT_PIECE, 16, 0)
    contents = Contents(location, state(registers=[0xDEADBEEF] * 17))
    assert contents.bits(32) == 0xDEADBEEF
    assert contents.bits(16, 48) == 9
    with pytest.raises(Exception, match="optimized out"):
        contents.bits(40)
    assert Contents(run(Op.REG0, Op.BIT_PIECE, 8, 4), state(registers=[0xABC] * 17)).bits(8) == 0xAB


def test_nothing_is_optimized_out_and_damage_has_a_reason():
    assert run() == OptimizedOut()
    chance = random.Random(1)
    for _ in range(3000):
        code = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 12)))
        location = evaluate(code, state(), UNIT)
        if isinstance(location, UnknownLocation):
            assert str(location.why)
