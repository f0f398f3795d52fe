"""Records written straight from the pool of a section's rules are those that the rules' values give."""

from __future__ import annotations

import numpy as np
import pytest

from cfi_tables import section_rows, x86_64
from cfi_tables.cfi_sources import frame_sections
from cfi_tables.elf_image import ElfImage
from cfi_tables.layout import (
    CFA_KIND_EXPRESSION,
    CFA_KIND_REGISTER_OFFSET,
    REGISTER_KIND_AT_CFA,
    REGISTER_KIND_EXPRESSION,
)
from cfi_tables.pooled_rules import PooledRules
from cfi_tables.rule_pool import (
    FIRST_RULE,
    RULE_WORDS,
    WORD_CFA_KIND,
    WORD_CFA_VALUE,
    WORD_COUNT,
    WORD_ENTRIES,
    prepare_rules,
)
from cfi_tables.rule_record import encode_rules


@pytest.mark.parametrize("name", ["libc.so.6", "libcrypto.so.3", "gdb"])
@pytest.mark.parametrize("compiled", [False, True])
def test_records_of_installed_files(name, compiled, system_file):
    image = ElfImage.open(system_file(name))
    (section,) = [section for section, _ in frame_sections(image, None)]
    _, rules, _ = section_rows.decode_section(section, True)
    rules = PooledRules(*rules._pool, compiled)
    assert rules.are_plain
    assert len(set(rules.values)) == len(rules) > 100
    _same_records(rules, np.random.default_rng(1).permutation(len(rules)))


def test_a_table_of_one_source_makes_no_values(system_file, monkeypatch):
    monkeypatch.setattr(PooledRules, "values", property(lambda self: pytest.fail("a rule's value was made")))
    from cfi_tables.table import build_table

    assert build_table(ElfImage.open(system_file("libc.so.6")), use_compiled=True).rule_count > 100


@pytest.mark.parametrize(
    ("expressions", "plain"),
    [
        ([b"\x76\x78\x06"], True),  # *(rbp - 8)
        ([b"\x76\x78\x06", b"\x76\x70\x06", b"\x76\x78\x06\x23\x08"], True),
        ([b"\x76\x40\x06", b"\x76\xbf\x7f\x06", b"\x76\x80\x80\x7e\x06\x23\xff\xff\x01"], True),
        ([b"\x76\x78\x06\x23\x80\x01", b"\x76\x78\x06\x23\x7f"], True),
        ([b"\x76\x78\x06\x23\x00"], False),  # as much as without the sum
        ([b"\x76\xf8\x7f\x06"], False),  # -8 in two bytes
        ([b"\x76\x78\x06\x23\x88\x00"], False),
        ([b"\x77\x10\x06\x23\x08\x1c", b"", b"\x30" * 0xFFFF], True),
        ([b"\x30" * 0x10000], False),
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_expressions(expressions, plain, compiled):
    """A CFA of each expression, and a register that each tells."""
    rules = _pool(expressions, (-16,), compiled)
    assert rules.are_plain == plain
    if plain:
        assert len(set(rules.values)) == len(rules)
        _same_records(rules, np.arange(len(rules)))
        _same_records(rules, np.arange(len(rules))[::-1].copy())


@pytest.mark.parametrize(("value", "plain"), [(-(1 << 22), True), ((1 << 22) - 1, True), (1 << 22, False)])
def test_values_that_fit(value, plain):
    rules = _pool([], (value,), False)
    assert rules.are_plain == plain
    if plain:
        _same_records(rules, np.arange(len(rules)))


def test_more_lists_than_there_is_room_for():
    rules = _pool([], tuple(range(0, 1 << 16, 2)), True)
    assert rules.are_plain
    _same_records(rules, np.arange(len(rules)))


def _same_records(rules, order):
    wanted = encode_rules([rules.values[number] for number in order.tolist()])
    for found, each in zip(rules.encode(order), wanted, strict=True):
        assert bytes(found) == bytes(each)


def _pool(expressions: list[bytes], values: tuple[int, ...], compiled: bool) -> PooledRules:
    """A rule for each expression as its CFA, one for each that tells a register, one for each place of a register."""
    data = np.frombuffer(b"".join(expressions) + b"\0", dtype=np.uint8)
    places = np.cumsum([0, *map(len, expressions)])
    pool = np.array([len(expressions), *(word for at, each in zip(places, expressions, strict=False)
                                         for word in (at, len(each)))], dtype=np.int64)  # fmt: skip
    numbers = range(len(expressions))
    return_address = (16 | REGISTER_KIND_AT_CFA << 8, -8)
    made = [(CFA_KIND_EXPRESSION, number, return_address) for number in numbers]
    made += [(CFA_KIND_REGISTER_OFFSET, 8, (16 | REGISTER_KIND_EXPRESSION << 8, number)) for number in numbers]
    made += [(CFA_KIND_REGISTER_OFFSET, 8, (3 | REGISTER_KIND_AT_CFA << 8, value, *return_address)) for value in values]
    words = np.zeros(1 + (FIRST_RULE + len(made)) * RULE_WORDS, dtype=np.int64)
    prepare_rules(words)
    for number, (kind, value, entries) in enumerate(made, FIRST_RULE):
        base = 1 + number * RULE_WORDS
        words[base + WORD_CFA_KIND], words[base + WORD_CFA_VALUE] = kind, value
        words[base + WORD_COUNT] = len(entries) // 2
        words[base + WORD_ENTRIES : base + WORD_ENTRIES + len(entries)] = entries
    words[0] = FIRST_RULE + len(made)
    return PooledRules(words, pool, data, len(x86_64.ARCHITECTURE.register_names), compiled)
