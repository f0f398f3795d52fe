"""Rules in words that a table, readelf and objtool can all be put in, so that they can be compared.

Owns the words: readelf's (`readelf_rows` tells them), made exact where readelf's are not: a CFA read from memory is
`*(rbp-8)+0`, a register saved elsewhere than at the CFA `exp (OPERATIONS)`. Registers are sorted by number; `u` and,
for those that calls preserve, `s` stand in a rule only where its source says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cfi_tables import layout
from cfi_tables.architecture import Architecture
from cfi_tables.expression_text import describe_expression
from cfi_tables.hot_loop import FlatArray
from cfi_tables.lookup import expression_pool, register_list
from cfi_tables.readelf_rows import ReadelfRule
from cfi_tables.rule_record import Rule
from cfi_tables.scalars import read_i16, read_i32, read_u8, read_u16

GAP = "no information"
END = "outermost frame"
OVERFLOW = "rule does not fit the table"


@dataclass(frozen=True, slots=True)
class RuleWords:
    """A rule that says how to go on."""

    cfa: str
    registers: tuple[tuple[str, str], ...]
    signal_frame: bool

    def __str__(self) -> str:
        words = [f"CFA={self.cfa}", *(f"{name}={rule}" for name, rule in self.registers)]
        return " ".join([*words, "signal frame"] if self.signal_frame else words)


_PREFIX = {layout.REGISTER_KIND_AT_CFA: "c", layout.REGISTER_KIND_CFA_PLUS: "v"}
_WORD = {layout.REGISTER_KIND_UNDEFINED: "u", layout.REGISTER_KIND_SAME: "s"}
_EXPRESSION = {layout.REGISTER_KIND_EXPRESSION: "exp", layout.REGISTER_KIND_VAL_EXPRESSION: "vexp"}


def table_words(view: FlatArray, offset: int, architecture: Architecture) -> str | RuleWords:
    """The rule record at `offset` of the table in `view`; GAP for offset -1."""
    if offset < 0:
        return GAP
    kind = read_u8(view, offset + layout.RULE_CFA_KIND)
    if kind == layout.CFA_KIND_END:
        return END
    if kind == layout.CFA_KIND_OVERFLOW:
        return OVERFLOW
    name = architecture.register_name(read_u8(view, offset + layout.RULE_CFA_REGISTER))
    value = read_i32(view, offset + layout.RULE_CFA_VALUE)
    if kind == layout.CFA_KIND_REGISTER_OFFSET:
        cfa = f"{name}{value:+d}"
    elif kind == layout.CFA_KIND_DEREF:
        cfa = f"*({name}{read_i16(view, offset + layout.RULE_CFA_VALUE):+d}){value >> 16:+d}"
    else:
        cfa = "exp"
    registers = []
    entries = register_list(view, 0, offset)
    for index in range(read_u8(view, entries)):
        entry = read_i32(view, entries + 4 + 4 * index)
        how, value = entry >> 6 & 7, entry >> 9
        if how in _PREFIX:
            word = f"{_PREFIX[how]}{value:+d}"
        elif how == layout.REGISTER_KIND_IN_REGISTER:
            word = architecture.register_name(value)
        elif how in _EXPRESSION:
            place = expression_pool(view, 0) + value
            operations = bytes(view[place + 2 : place + 2 + read_u16(view, place)])
            word = f"{_EXPRESSION[how]} ({describe_expression(operations, architecture)})"
        else:
            word = _WORD[how]
        registers.append((architecture.register_name(entry & 63), word))
    flags = read_u8(view, entries + 1)
    return RuleWords(cfa, tuple(registers), bool(flags & layout.RULE_FLAG_SIGNAL_FRAME))


def readelf_words(rule: ReadelfRule, architecture: Architecture) -> RuleWords:
    """A rule of readelf's; registers that rules do not hold are left out."""
    numbers = {name: number for number, name in enumerate(architecture.register_names)}
    numbers["ra"] = rule.return_column
    registers = [(numbers[name], word) for name, word in rule.registers if name in numbers]
    other = rule.return_column
    if 0 <= other < len(architecture.register_names) and other != architecture.return_column:
        # The code returns through another register, whose column readelf then calls "ra".
        word = dict(rule.registers).get("ra", "u")
        registers.append((architecture.return_column, architecture.register_name(other) if word in "us" else word))
    return RuleWords(
        rule.cfa,
        tuple((architecture.register_name(number), word) for number, word in sorted(registers)),
        "S" in rule.augmentation,
    )


def rule_words(rule: Rule, architecture: Architecture) -> str | RuleWords:
    """A rule that is in no table yet."""
    if rule.cfa_kind == layout.CFA_KIND_INVALID:
        return GAP
    if rule.cfa_kind == layout.CFA_KIND_END:
        return END
    name = architecture.register_name(rule.cfa_register)
    if isinstance(rule.cfa_a, bytes) or rule.cfa_kind == layout.CFA_KIND_EXPRESSION:
        cfa = "exp"
    elif rule.cfa_kind == layout.CFA_KIND_DEREF:
        cfa = f"*({name}{rule.cfa_a:+d}){rule.cfa_b:+d}"
    elif rule.cfa_kind == layout.CFA_KIND_REGISTER_OFFSET:
        cfa = f"{name}{rule.cfa_a:+d}"
    else:
        return OVERFLOW
    registers = []
    for register, how, value in rule.entries:
        if isinstance(value, bytes):
            word = f"{_EXPRESSION[how]} ({describe_expression(value, architecture)})"
        elif how in _PREFIX:
            word = f"{_PREFIX[how]}{value:+d}"
        elif how == layout.REGISTER_KIND_IN_REGISTER:
            word = architecture.register_name(value)
        else:
            word = _WORD[how]
        registers.append((architecture.register_name(register), word))
    return RuleWords(cfa, tuple(registers), bool(rule.flags & layout.RULE_FLAG_SIGNAL_FRAME))


def without_defaults(words: RuleWords, architecture: Architecture) -> RuleWords:
    """Without "u", and without "s" of the registers that calls preserve."""
    saved = {architecture.register_name(number) for number in architecture.callee_saved}
    registers = tuple(
        (name, rule) for name, rule in words.registers if rule != "u" and not (rule == "s" and name in saved)
    )
    return replace(words, registers=registers)


def as_readelf_has_it(words: RuleWords, architecture: Architecture) -> RuleWords:
    """Only what readelf tells: without defaults, expressions unread."""
    known = without_defaults(words, architecture)
    return replace(
        known,
        cfa="exp" if words.cfa.startswith("*") else words.cfa,
        registers=tuple((name, rule.partition(" ")[0]) for name, rule in known.registers),
    )
