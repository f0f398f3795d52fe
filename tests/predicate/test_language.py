"""The words of --when: what is written is what is meant, and what is wrong is told with its place."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptap.predicate.expression import And, Caller, CommIs, InModule, Measured, Not, Or, UserCaller, terms
from ptap.predicate.parse import PredicateSyntaxError, parse_predicate
from relay_reader.predicate_layout import PREDICATE_INSTRUCTIONS, Comparison, Measure

_SIGNS = {
    Comparison.EQUAL: "==",
    Comparison.NOT_EQUAL: "!=",
    Comparison.LESS: "<",
    Comparison.LESS_OR_EQUAL: "<=",
    Comparison.GREATER: ">",
    Comparison.GREATER_OR_EQUAL: ">=",
}
_names = st.text("abz_*?:.<>() ,=/+~&|!", min_size=1, max_size=8)
_files = st.none() | st.text("abz_*?./ ", min_size=1, max_size=8)
_limits = st.none() | st.integers(1, 1000)
_terms = st.one_of(
    st.builds(Caller, _names, _files, _limits),
    st.builds(Caller, _names, _files, st.none(), st.just(True)),
    st.builds(UserCaller, st.none() | _names, _names, _files, _limits),
    st.builds(InModule, _names),
    st.builds(Measured, st.sampled_from(Measure), st.sampled_from(Comparison), st.integers(0, 2**64 - 1)),
    st.builds(CommIs, st.text("abc é()", min_size=1, max_size=5)),
)
_predicates = st.recursive(
    _terms, lambda part: st.builds(Not, part) | st.builds(And, part, part) | st.builds(Or, part, part), max_leaves=10
)


def _written(predicate) -> str:
    """With parentheses around everything."""
    if isinstance(predicate, Not):
        return f"not ({_written(predicate.part)})"
    if isinstance(predicate, And | Or):
        word = "and" if isinstance(predicate, And) else "or"
        return f"({_written(predicate.left)}) {word} ({_written(predicate.right)})"
    if isinstance(predicate, Measured):
        return f"{predicate.measure.name.lower()}() {_SIGNS[predicate.comparison]} {predicate.value}"
    if isinstance(predicate, CommIs):
        return f'comm() == "{predicate.name}"'
    if isinstance(predicate, InModule):
        return f'called_from("{predicate.module}")'
    function = predicate.function + (f"@{predicate.file}" if predicate.file is not None else "")
    limit = f", {predicate.limit}" if predicate.limit is not None else ""
    if isinstance(predicate, Caller):
        return f'{"direct_" if predicate.direct else ""}caller("{function}"{limit})'
    module = f'"{predicate.module}", ' if predicate.module is not None else ""
    return f'user_caller({module}"{function}"{limit})'


@given(_predicates)
def test_what_is_written_is_what_is_meant(predicate):
    assert parse_predicate(_written(predicate)) == predicate


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('caller("a") or caller("b") and caller("c")', Or(Caller("a"), And(Caller("b"), Caller("c")))),
        ('caller("a")||!caller("b")&&caller("c")', Or(Caller("a"), And(Not(Caller("b")), Caller("c")))),
        ('not not caller("a")', Caller("a")),
        ('not caller("a") or caller("b")', Or(Not(Caller("a")), Caller("b"))),
        ("  depth( )>0x28 ", Measured(Measure.DEPTH, Comparison.GREATER, 40)),
        ("caller('do_sys_poll@fs/select.c', 3)", Caller("do_sys_poll", "fs/select.c", 3)),
        ("comm() != 'nginx'", Not(CommIs("nginx"))),
        ('user_caller("libssl.so.3", "SSL_read")', UserCaller("libssl.so.3", "SSL_read")),
        ('user_caller("SSL_read", 2)', UserCaller(None, "SSL_read", None, 2)),
    ],
)
def test_precedence_and_spelling(text, meant):
    assert parse_predicate(text) == meant


@pytest.mark.parametrize(
    ("text", "column", "told"),
    [
        ("", 1, "the end where one of caller("),
        ('caller("a") and', 16, "the end where one of"),
        ('caller("a") caller("b")', 13, "`caller` where `and`, `or` or the end"),
        ('(caller("a")', 13, "the end where `)`"),
        ('caller("a"))', 12, "`)` where `and`"),
        ("caller(a)", 8, "`a` where the name of a function in quotes"),
        ('caller("a', 8, "a name that is not closed"),
        ('caller("a", 0)', 13, "count from 1"),
        ('caller("@x.c")', 8, "is not NAME or NAME@FILE"),
        ('caller("a@x.c:12")', 8, "without a line"),
        ('calls("a")', 1, "there is no calls(); there are caller("),
        ("depth() = 3", 9, "`=` cannot be understood"),
        ("depth() 3", 9, "`3` where one of == != < <= > >="),
        ('depth() > "3"', 11, "where a number"),
        ("depth > 3", 7, "`>` where `(`"),
        ("pid() == 18446744073709551616", 10, "more than 64 bits"),
        ('comm() == "sixteen_bytes_xx"', 11, "at most 15 bytes"),
        ('comm() < "a"', 8, "`<` where == or !="),
        ('comm() == ""', 11, "an empty name"),
        ("and", 1, "`and` where one of"),
        ('caller("a") % 2', 13, "`%` cannot be understood"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text, column, told):
    with pytest.raises(PredicateSyntaxError) as error:
        parse_predicate(text)
    assert re.search(rf"column {column}: ", str(error.value)) and told in str(error.value)


@given(st.text("caller(\"a') and or not depth()>1,&|!<=@*", max_size=60))
def test_any_text_is_a_predicate_or_an_error(text):
    try:
        assert terms(parse_predicate(text))
    except PredicateSyntaxError as error:
        assert "column" in str(error)


def test_what_is_too_much_is_refused():
    most = PREDICATE_INSTRUCTIONS // 3
    assert len(terms(parse_predicate(" and ".join(["not pid() == 1"] * most)))) == most
    with pytest.raises(PredicateSyntaxError, match="more than 21 terms"):
        parse_predicate(" and ".join(["pid() == 1"] * (most + 1)))
    with pytest.raises(PredicateSyntaxError, match="parentheses in one another"):
        parse_predicate("(" * 500 + "pid() == 1" + ")" * 500)
    assert parse_predicate("not " * 5000 + "pid() == 1") == parse_predicate("pid() == 1")
