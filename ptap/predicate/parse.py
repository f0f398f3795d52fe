"""The words of `--when` → a predicate.

    predicate    = conjunction { ("or" | "||") conjunction }
    conjunction  = negation { ("and" | "&&") negation }
    negation     = { "not" | "!" } ( "(" predicate ")" | term )
    term         = caller("NAME[@FILE]" [, N])           the function stands above the probed one, N: at most so far
                 | direct_caller("NAME[@FILE]")          it is the next one above
                 | user_caller(["FILE",] "NAME" [, N])   as caller, in user space; FILE is the program or library
                 | called_from("FILE")                   a frame lies in the program, library or kernel module
                 | depth() OP N | kernel_depth() OP N | user_depth() OP N | pid() OP N | tid() OP N
                 | comm() == "NAME" | comm() != "NAME"
    OP           = == != < <= > >=

A parser of one's own: what Python's makes of it would not say where a word is missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ptap.predicate.expression import And, Caller, CommIs, InModule, Measured, Not, Or, Predicate, UserCaller
from relay_reader.predicate_layout import PREDICATE_DEPTH, PREDICATE_INSTRUCTIONS, Comparison, Measure

_TOKEN = re.compile(
    r"""\s* (?: (?P<text>"[^"]*"|'[^']*') | (?P<number>0[xX][0-9a-fA-F]+|\d+) | (?P<word>[A-Za-z_]\w*)
        | (?P<mark>==|!=|<=|>=|&&|\|\||[<>!(),]) )""",
    re.VERBOSE,
)
_MEASURES = {measure.name.lower(): measure for measure in Measure}
_COMPARISONS = {
    "==": Comparison.EQUAL,
    "!=": Comparison.NOT_EQUAL,
    "<": Comparison.LESS,
    "<=": Comparison.LESS_OR_EQUAL,
    ">": Comparison.GREATER,
    ">=": Comparison.GREATER_OR_EQUAL,
}
_AND, _OR, _NOT = {"and", "&&"}, {"or", "||"}, {"not", "!"}
_LONGEST_COMM = 15  # bytes (TASK_COMM_LEN, less its zero)
_TERMS = (
    'caller("NAME"), direct_caller("NAME"), user_caller("FILE", "NAME"), called_from("FILE"), depth() > N, '
    'kernel_depth() > N, user_depth() > N, pid() == N, tid() == N, comm() == "NAME"'
)


class PredicateSyntaxError(ValueError):
    """A predicate cannot be understood; the text says where, and what can stand there."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    """As written; "" for the end."""
    kind: str
    """The group of the expression above, or `end`."""
    column: int
    """From 1."""


def parse_predicate(text: str) -> Predicate:
    """`text` as a predicate. Raises PredicateSyntaxError."""
    return _Parser(text).whole()


class _Parser:
    """One reading of one text, from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._depth = 0
        self._terms = 0
        self._tokens = list(self._split())

    def _split(self) -> list[_Token]:
        tokens = []
        at = 0
        end = len(self._text.rstrip())
        while at < end:
            match = _TOKEN.match(self._text, at)
            if match is None:
                at += len(self._text[at:]) - len(self._text[at:].lstrip())
                what = "a name that is not closed" if self._text[at] in "\"'" else f"`{self._text[at]}`"
                raise self._error(at + 1, f"{what} cannot be understood; there are {_TERMS}")
            kind = str(match.lastgroup)
            tokens.append(_Token(match[kind], kind, match.start(kind) + 1))
            at = match.end()
        return [*reversed(tokens + [_Token("", "end", end + 1)])]

    def _error(self, column: int, what: str) -> PredicateSyntaxError:
        return PredicateSyntaxError(f"--when {self._text!r}, column {column}: {what}")

    def _wrong(self, token: _Token, wanted: str) -> PredicateSyntaxError:
        found = f"`{token.text}`" if token.text else "the end"
        return self._error(token.column, f"{found} where {wanted} is expected")

    @property
    def _next(self) -> _Token:
        return self._tokens[-1]

    def _take(self, kind: str, wanted: str) -> _Token:
        if self._next.kind != kind:
            raise self._wrong(self._next, wanted)
        return self._tokens.pop()

    def _takes(self, words: set[str]) -> bool:
        """Whether the next token is one of `words`, which is taken then. A name in quotes is none."""
        if self._next.kind == "text" or self._next.text not in words:
            return False
        self._tokens.pop()
        return True

    def _mark(self, mark: str) -> None:
        if not self._takes({mark}):
            raise self._wrong(self._next, f"`{mark}`")

    def whole(self) -> Predicate:
        """All of the text."""
        found = self._any()
        if self._next.kind != "end":
            raise self._wrong(self._next, "`and`, `or` or the end")
        return found

    def _any(self) -> Predicate:
        found = self._all()
        while self._takes(_OR):
            found = Or(found, self._all())
        return found

    def _all(self) -> Predicate:
        found = self._negation()
        while self._takes(_AND):
            found = And(found, self._negation())
        return found

    def _negation(self) -> Predicate:
        negated = False
        while self._takes(_NOT):
            negated = not negated
        if self._takes({"("}):
            self._depth += 1
            if self._depth >= PREDICATE_DEPTH:
                raise self._error(self._next.column, f"more than {PREDICATE_DEPTH - 1} parentheses in one another")
            found = self._any()
            self._mark(")")
            self._depth -= 1
        else:
            found = self._term()
        return Not(found) if negated else found

    def _term(self) -> Predicate:
        token = self._next
        if token.kind != "word" or token.text in _AND | _OR:
            raise self._wrong(token, f"one of {_TERMS}")
        self._terms += 1
        if 3 * self._terms > PREDICATE_INSTRUCTIONS:  # each with a `not` and an `and`
            raise self._error(token.column, f"more than {PREDICATE_INSTRUCTIONS // 3} terms")
        self._tokens.pop()
        self._mark("(")
        if token.text in _MEASURES:
            self._mark(")")
            return self._measured(_MEASURES[token.text])
        if token.text == "comm":
            self._mark(")")
            return self._comm()
        if token.text == "called_from":
            found: Predicate = InModule(self._name("the name of a program, library or kernel module"))
        elif token.text in ("caller", "direct_caller"):
            function, file = self._function(self._take("text", "the name of a function in quotes"))
            direct = token.text == "direct_caller"
            found = Caller(function, file, None if direct else self._limit(), direct)
        elif token.text == "user_caller":
            found = self._user_caller()
        else:
            raise self._error(token.column, f"there is no {token.text}(); there are {_TERMS}")
        self._mark(")")
        return found

    def _name(self, what: str) -> str:
        token = self._take("text", f"{what} in quotes")
        if len(token.text) == 2:
            raise self._error(token.column, f"an empty name where {what} is expected")
        return token.text[1:-1]

    def _function(self, token: _Token) -> tuple[str, str | None]:
        """(NAME, FILE) of `NAME[@FILE]`."""
        name, at, file = token.text[1:-1].partition("@")
        if not name or (at and not file) or "@" in file:
            raise self._error(token.column, f"{token.text} is not NAME or NAME@FILE")
        if re.search(r":\d+$", file):
            raise self._error(token.column, f"{token.text}: a caller is told by NAME@FILE, without a line")
        return name, file or None

    def _limit(self) -> int | None:
        if not self._takes({","}):
            return None
        token = self._take("number", "a number of frames")
        if int(token.text, 0) == 0:
            raise self._error(token.column, "0 frames above the probed one are none; count from 1")
        return self._number(token)

    def _number(self, token: _Token) -> int:
        value = int(token.text, 0)
        if value >= 1 << 64:
            raise self._error(token.column, "a number of more than 64 bits")
        return value

    def _user_caller(self) -> UserCaller:
        first = self._take("text", "the name of a program, library or function in quotes")
        if self._next.text == "," and self._tokens[-2].kind == "text":
            self._tokens.pop()
            if len(first.text) == 2:
                raise self._error(first.column, "an empty name of a program or library")
            function, file = self._function(self._tokens.pop())
            return UserCaller(first.text[1:-1], function, file, self._limit())
        function, file = self._function(first)
        return UserCaller(None, function, file, self._limit())

    def _measured(self, measure: Measure) -> Measured:
        token = self._next
        if token.text not in _COMPARISONS:
            raise self._wrong(token, f"one of {' '.join(_COMPARISONS)}")
        self._tokens.pop()
        return Measured(measure, _COMPARISONS[token.text], self._number(self._take("number", "a number")))

    def _comm(self) -> Predicate:
        token = self._next
        if token.text not in ("==", "!="):
            raise self._wrong(token, "== or !=")
        self._tokens.pop()
        column = self._next.column
        name = self._name("the name of a thread")
        if len(name.encode()) > _LONGEST_COMM:
            raise self._error(column, f"the name of a thread has at most {_LONGEST_COMM} bytes")
        return CommIs(name) if token.text == "==" else Not(CommIs(name))
