"""Tokens of the filter text, and what a token says as a value of each type. Knows no grammar."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, Literal, NoReturn, TypeAlias, TypeVar

from engine.errors import InvalidArgument
from engine.types import ItemId, Timestamp

RESERVED = frozenset({"and", "or", "not", "in", "is", "null", "between", "within", "at"})
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
INT64 = range(-(2**63), 2**63)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TOKEN = re.compile(
    r"""(?P<symbol>!=|<=|>=|[=<>(),])
      | '(?P<single>[^'\\]*(?:\\.[^'\\]*)*)'
      | "(?P<double>[^"\\]*(?:\\.[^"\\]*)*)"
      | (?P<word>[^\s(),=!<>'"]+)""",
    re.DOTALL | re.VERBOSE,
)
_SPACE = re.compile(r"\s*")
_INT = re.compile(r"[+-]?[0-9]{1,40}")
_FLOAT = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf)")
_ESCAPES = {"\\": "\\", "'": "'", '"': '"', "n": "\n", "r": "\r", "t": "\t"}
_ESCAPED = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


MatchValue: TypeAlias = str | bool | int
Bound: TypeAlias = int | float | Timestamp
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Token:
    """``at``: characters before it. The text of a string is without its quotes and escapes."""

    kind: Literal["symbol", "string", "word", "end"]
    text: str
    at: int

    def is_word(self, word: str) -> bool:
        return self.kind == "word" and self.text.lower() == word

    def is_symbol(self, *symbols: str) -> bool:
        return self.kind == "symbol" and self.text in symbols

    @property
    def is_name(self) -> bool:
        """Whether it may stand for an attribute."""
        is_plain = self.kind == "word" and NAME.fullmatch(self.text) and self.text.lower() not in RESERVED
        return self.kind == "string" or bool(is_plain)

    @property
    def is_match(self) -> bool:
        """Whether it is or begins one of ``= != in`` and ``not in``."""
        return self.is_symbol("=", "!=") or self.is_word("in") or self.is_word("not")

    def refuse(self, expected: str) -> NoReturn:
        """Raises InvalidArgument: something else was expected here."""
        found = "the end" if self.kind == "end" else repr(self.text)
        refuse(self.at, f"expected {expected}, found {found}")


def refuse(at: int, why: str) -> NoReturn:
    """Raises InvalidArgument with the place in the text, counted from 1."""
    raise InvalidArgument("filter", f"at character {at + 1}: {why}")


def tokens_of(text: str) -> Iterator[Token]:
    """The tokens, with one of kind ``end`` behind them. Raises InvalidArgument."""
    at = _end_of_space(text, 0)
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            refuse(at, "a quote is not closed" if text[at] in "'\"" else f"{text[at]!r} has no meaning here")
        kind = found.lastgroup
        if kind in {"single", "double"}:
            yield Token("string", _unescaped(found[kind], at + 1), at)
        else:
            yield Token("symbol" if kind == "symbol" else "word", found[0], at)
        at = _end_of_space(text, found.end())
    yield Token("end", "", len(text))


def _end_of_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _unescaped(text: str, at: int) -> str:
    def character(found: re.Match[str]) -> str:
        if found[1] not in _ESCAPES:
            refuse(at + found.start(), f"\\{found[1]} is no escape: there are \\\\ \\' \\\" \\n \\r \\t")
        return _ESCAPES[found[1]]

    return re.sub(r"\\(.)", character, text, flags=re.DOTALL)


def quoted(text: str) -> str:
    """The text as a string token."""
    return "'" + "".join(_ESCAPED.get(one, one) for one in text) + "'"


@dataclass(frozen=True, slots=True)
class Reading(Generic[V_co]):
    """A way to take a token for a value: None where it is none of that kind, and the kind's name for errors."""

    value_of: Callable[[Token], V_co | None]
    expected: str


class Cursor:
    """A place among the tokens of a text. What is expected and not there raises InvalidArgument."""

    def __init__(self, text: str) -> None:
        self._tokens = list(tokens_of(text))
        self._place = 0

    @property
    def next(self) -> Token:
        return self._tokens[self._place]

    def take(self) -> Token:
        """The next token; the end is there for ever."""
        token = self.next
        self._place += token.kind != "end"
        return token

    def took_word(self, word: str) -> bool:
        taken = self.next.is_word(word)
        self._place += taken
        return taken

    def took_symbol(self, symbol: str) -> bool:
        taken = self.next.is_symbol(symbol)
        self._place += taken
        return taken

    def expect_word(self, word: str) -> None:
        if not self.took_word(word):
            self.next.refuse(f"{word!r}")

    def expect_symbol(self, symbol: str, expected: str) -> None:
        if not self.took_symbol(symbol):
            self.next.refuse(expected)

    def expect_end(self, expected: str) -> None:
        if self.next.kind != "end":
            self.next.refuse(expected)

    def literal(self, reading: Reading[V]) -> V:
        token = self.take()
        value = reading.value_of(token)
        if value is None:
            token.refuse(reading.expected)
        return value


def _keyword(token: Token) -> str | None:
    if token.kind == "string":
        return token.text
    return token.text if token.kind == "word" and token.text.lower() not in RESERVED else None


def _boolean(token: Token) -> bool | None:
    return {"true": True, "false": False}.get(token.text.lower()) if token.kind == "word" else None


def _integer(token: Token) -> int | None:
    return int(token.text) if token.kind == "word" and _INT.fullmatch(token.text) else None


def _number(token: Token) -> int | float | None:
    """An int where it is written as one and fits int64."""
    whole = _integer(token)
    if whole is not None and whole in INT64:
        return whole
    return float(token.text) if token.kind == "word" and _FLOAT.fullmatch(token.text) else None


def _time(token: Token) -> Timestamp | None:
    """UTC where no offset is given."""
    if token.kind not in {"word", "string"} or "-" not in token.text:
        return None
    try:
        moment = datetime.fromisoformat(token.text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return Timestamp((aware - EPOCH) // timedelta(microseconds=1))
    except (ValueError, OverflowError):
        return None


def _match_value(token: Token) -> MatchValue | None:
    truth = _boolean(token)
    return _id(token) if truth is None else truth


def _id(token: Token) -> ItemId | None:
    whole = _integer(token)
    return _keyword(token) if whole is None else whole


def _bound(token: Token) -> Bound | None:
    found = _number(token)
    return _time(token) if found is None else found


KEYWORD = Reading(_keyword, "a keyword")
BOOLEAN = Reading(_boolean, "true or false")
INTEGER = Reading(_integer, "an int")
NUMBER: Reading[int | float] = Reading(_number, "a number")
TIME = Reading(_time, "an ISO 8601 date or datetime")
ANY_MATCH: Reading[MatchValue] = Reading(_match_value, "a value")
ANY_ID: Reading[ItemId] = Reading(_id, "an id")
ANY_BOUND: Reading[Bound] = Reading(_bound, "a number or a date")
