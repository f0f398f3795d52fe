"""DWARF expressions as text (DWARF 5 §2.5), for people who read rules."""

from __future__ import annotations

from cfi_tables.architecture import Architecture
from cfi_tables.scalars import read_sleb, read_uleb

_PLAIN = {
    0x06: "deref", 0x12: "dup", 0x13: "drop", 0x14: "over", 0x16: "swap", 0x17: "rot", 0x19: "abs", 0x1A: "and",
    0x1B: "div", 0x1C: "minus", 0x1D: "mod", 0x1E: "mul", 0x1F: "neg", 0x20: "not", 0x21: "or", 0x22: "plus",
    0x24: "shl", 0x25: "shr", 0x26: "shra", 0x27: "xor", 0x29: "eq", 0x2A: "ge", 0x2B: "gt", 0x2C: "le",
    0x2D: "lt", 0x2E: "ne", 0x96: "nop", 0x9C: "call_frame_cfa",
}  # fmt: skip
# Operations with an operand: name, form (s or u and bytes, or sleb, uleb).
_OPERAND = {
    0x03: ("addr", "u8"), 0x08: ("const1u", "u1"), 0x09: ("const1s", "s1"), 0x0A: ("const2u", "u2"),
    0x0B: ("const2s", "s2"), 0x0C: ("const4u", "u4"), 0x0D: ("const4s", "s4"), 0x0E: ("const8u", "u8"),
    0x0F: ("const8s", "s8"), 0x10: ("constu", "uleb"), 0x11: ("consts", "sleb"), 0x15: ("pick", "u1"),
    0x23: ("plus_uconst", "uleb"), 0x28: ("bra", "s2"), 0x2F: ("skip", "s2"), 0x90: ("regx", "uleb"),
    0x94: ("deref_size", "u1"),
}  # fmt: skip


def describe_expression(expression: bytes, architecture: Architecture) -> str:
    """The operations in order, such as `rsp+8; deref; lit4; plus`; what is damaged is told as such."""
    words = []
    at = 0
    while at < len(expression):
        word, at = _operation(expression, at, architecture)
        words.append(word)
        if at < 0:
            break
    return "; ".join(words)


def _operation(data: bytes, at: int, architecture: Architecture) -> tuple[str, int]:
    """(text, next position), position -1 when the rest cannot be read."""
    opcode = data[at]
    at += 1
    end = len(data)
    if opcode in _PLAIN:
        return _PLAIN[opcode], at
    if 0x30 <= opcode < 0x50:
        return f"lit{opcode - 0x30}", at
    if 0x50 <= opcode < 0x70:
        return f"reg {architecture.register_name(opcode - 0x50)}", at
    if 0x70 <= opcode < 0x90 or opcode == 0x92:
        register = opcode - 0x70
        if opcode == 0x92:
            register, at = read_uleb(data, at, end)
        offset, at = read_sleb(data, at, end)
        name = architecture.register_name(register)
        if register == architecture.return_column:
            name = architecture.program_counter
        return (f"{name}{offset:+d}" if offset else name) if at >= 0 else "<damaged>", at
    if opcode not in _OPERAND:
        return f"<unknown operation {opcode:#x}>", -1
    name, form = _OPERAND[opcode]
    if form == "uleb":
        value, at = read_uleb(data, at, end)
    elif form == "sleb":
        value, at = read_sleb(data, at, end)
    else:
        size = int(form[1])
        value = int.from_bytes(data[at : at + size], "little", signed=form[0] == "s")
        at = at + size if at + size <= end else -1
    return (f"{name} {value}", at) if at >= 0 else ("<damaged>", -1)
