r"""The short text form of filters, for command lines: text to a filter tree and back. Knows no columns.

    remote = true and salary_min >= 90000 and (country in ('US', CA) or location is null) and not title_kind = 'x'
    published_at >= 2025-06-01 and place within 50 km of (52.52, 13.40) and id not in (1, 2)

``and``, ``or``, ``not`` and parentheses, ``not`` binding tightest. A condition is an attribute and one of ``= != in``,
``not in``, ``< <= > >=``, ``between X and Y`` (both ends belong to it), ``is null``, ``is not null`` and
``within N km|m of (lat, lon)``. ``title contains 'night nurse'`` wants every one of the terms in a text field. ``id``
stands for the item's id. ``at least N of (A, B, ...)`` counts; ``()`` passes everything, as blank text does.

``a != x`` and ``a not in (x, y)`` hold where ``a`` has a value and it is none of these: nulls do not pass. ``not a =
x`` is plain negation: nulls pass.

Strings stand in single or double quotes, with ``\\ \' \" \n \r \t`` as escapes; words without spaces or symbols need no
quotes. An attribute named like a word of this language is written in quotes. Times are ISO 8601 dates or datetimes, UTC
unless they give an offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn, TypeVar

from engine import filter_tokens as tokens
from engine.filter_format import format_filter
from engine.filter_tokens import Bound, Cursor, MatchValue, Reading, Token
from engine.types import (
    AttributeType,
    Condition,
    Contains,
    Filter,
    GeoPoint,
    GeoRadius,
    HasId,
    IsNull,
    ItemId,
    Match,
    Range,
    Schema,
)

__all__ = ["format_filter", "parse_filter"]

V = TypeVar("V")
_NESTING = 100
_MATCHED: Mapping[AttributeType, Reading[MatchValue]] = {
    AttributeType.KEYWORD: tokens.KEYWORD,
    AttributeType.KEYWORD_LIST: tokens.KEYWORD,
    AttributeType.BOOL: tokens.BOOLEAN,
    AttributeType.INT: tokens.INTEGER,
}
_ORDERED: Mapping[AttributeType, Reading[Bound]] = {
    AttributeType.INT: tokens.INTEGER,
    AttributeType.FLOAT: tokens.NUMBER,
    AttributeType.TIMESTAMP: tokens.TIME,
}
_IDS: Mapping[str, Reading[ItemId]] = {"uint64": tokens.INTEGER, "string": tokens.KEYWORD}
_BOUND_OF_SIGN = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_OPERATORS = "an operator: = != < <= > >= in, not in, between, is null, is not null, within or contains"


def parse_filter(text: str, schema: Schema | None) -> Filter:
    """The filter that ``text`` says; see the module.

    With a schema, attributes are looked up and literals are of their types. Without one, a quoted literal is a string
    and a bare one whatever it looks like.

    Raises:
        InvalidArgument: with the place in the text and what was expected there.
    """
    return _Parser(text, schema).filter()


class _Parser:
    """Recursive descent, one method a rule."""

    def __init__(self, text: str, schema: Schema | None) -> None:
        self._schema = schema
        self._at = Cursor(text)
        self._depth = 0

    def filter(self) -> Filter:
        tree = Filter() if self._at.next.kind == "end" else self._disjunction()
        self._at.expect_end("'and', 'or' or the end")
        return tree if isinstance(tree, Filter) else Filter(must=(tree,))

    def _disjunction(self) -> Condition:
        options = [self._conjunction()]
        while self._at.took_word("or"):
            options.append(self._conjunction())
        return options[0] if len(options) == 1 else Filter(should=tuple(options))

    def _conjunction(self) -> Condition:
        parts = [self._negation()]
        while self._at.took_word("and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else _all_of(parts)

    def _negation(self) -> Condition:
        self._depth += 1
        if self._depth > _NESTING:
            tokens.refuse(self._at.next.at, f"nested deeper than {_NESTING} levels")
        is_negated = self._at.took_word("not")
        found = Filter(must_not=(self._negation(),)) if is_negated else self._operand()
        self._depth -= 1
        return found

    def _operand(self) -> Condition:
        if self._at.took_symbol("("):
            if self._at.took_symbol(")"):
                return Filter()
            inner = self._disjunction()
            self._at.expect_symbol(")", "'and', 'or' or ')'")
            return inner
        return self._at_least() if self._at.took_word("at") else self._condition()

    def _at_least(self) -> Condition:
        self._at.expect_word("least")
        minimum = self._at.literal(tokens.INTEGER)
        self._at.expect_word("of")
        self._at.expect_symbol("(", "'('")
        options = [self._disjunction()]
        while self._at.took_symbol(","):
            options.append(self._disjunction())
        self._at.expect_symbol(")", "'and', 'or', ',' or ')'")
        return Filter(should=tuple(options), min_should=minimum)

    def _condition(self) -> Condition:
        if self._at.took_word("id"):
            return self._id_condition()
        name = self._at.take()
        if not name.is_name:
            name.refuse("an attribute, 'not' or '('")
        if self._at.next.is_word("contains"):
            return self._contains(name)
        kind = self._type_of(name)
        if self._at.took_word("is"):
            return self._is_null(name.text)
        if self._at.next.is_word("within"):
            return self._near(name.text, kind)
        if self._at.next.is_word("between") or self._at.next.is_symbol(*_BOUND_OF_SIGN):
            return self._range(name.text, kind)
        return self._match(name.text, kind)

    def _type_of(self, name: Token) -> AttributeType | None:
        """None without a schema."""
        if self._schema is None:
            return None
        spec = self._schema.attribute(name.text)
        if spec is None:
            known = ", ".join(one.name for one in self._schema.attributes if one.filterable) or "none"
            is_text = any(one.name == name.text for one in self._schema.text_fields)
            what = "is a text field, which takes contains alone" if is_text else "is the name of no attribute"
            tokens.refuse(name.at, f"{name.text!r} {what}; there are: {known}")
        return spec.type

    def _is_null(self, name: str) -> Condition:
        is_negated = self._at.took_word("not")
        self._at.expect_word("null")
        return Filter(must_not=(IsNull(name),)) if is_negated else IsNull(name)

    def _contains(self, name: Token) -> Condition:
        fields = {one.name: one.analyser for one in self._schema.text_fields} if self._schema else None
        if fields is not None and fields.get(name.text) is None:
            known = ", ".join(one for one, kind in fields.items() if kind is not None) or "none"
            what = "has no analyser" if name.text in fields else "is the name of no text field"
            tokens.refuse(name.at, f"{name.text!r} {what}; fields with one: {known}")
        self._at.expect_word("contains")
        return Contains(name.text, self._at.literal(tokens.KEYWORD))

    def _near(self, name: str, kind: AttributeType | None) -> Condition:
        operator = self._at.take()
        if kind not in {None, AttributeType.GEO_POINT}:
            _refuse_operator(operator, name, kind)
        radius_m = self._at.literal(tokens.NUMBER)
        unit = self._at.take()
        if not (unit.is_word("km") or unit.is_word("m")):
            unit.refuse("'km' or 'm'")
        self._at.expect_word("of")
        self._at.expect_symbol("(", "'('")
        lat = self._at.literal(tokens.NUMBER)
        self._at.expect_symbol(",", "','")
        lon = self._at.literal(tokens.NUMBER)
        self._at.expect_symbol(")", "')'")
        return GeoRadius(name, GeoPoint(float(lat), float(lon)), radius_m * (1000.0 if unit.is_word("km") else 1.0))

    def _range(self, name: str, kind: AttributeType | None) -> Condition:
        operator = self._at.take()
        if kind is not None and kind not in _ORDERED:
            _refuse_operator(operator, name, kind)
        reading = _ORDERED[kind] if kind else tokens.ANY_BOUND
        bound = self._at.literal(reading)
        if operator.is_word("between"):
            self._at.expect_word("and")
            return Range(name, gte=bound, lte=self._at.literal(reading))
        return Range(name, **{_BOUND_OF_SIGN[operator.text]: bound})

    def _match(self, name: str, kind: AttributeType | None) -> Condition:
        operator = self._at.next
        if kind is not None and kind not in _MATCHED and operator.is_match:
            _refuse_operator(operator, name, kind)
        reading = _MATCHED.get(kind, tokens.ANY_MATCH) if kind else tokens.ANY_MATCH
        is_negated, values = self._operator_and_values(reading)
        if not values or len({type(value) for value in values}) > 1:
            tokens.refuse(operator.at, "expected one value or more, all of one kind")
        return Match(name, except_=tuple(values)) if is_negated else Match(name, any_of=tuple(values))

    def _id_condition(self) -> Condition:
        reading = _IDS[self._schema.id_type] if self._schema else tokens.ANY_ID
        is_negated, ids = self._operator_and_values(reading)
        return Filter(must_not=(HasId(tuple(ids)),)) if is_negated else HasId(tuple(ids))

    def _operator_and_values(self, reading: Reading[V]) -> tuple[bool, Sequence[V]]:
        """Of ``= != in`` and ``not in``: whether it is one of negation, and what follows."""
        operator = self._at.take()
        if operator.is_symbol("=", "!="):
            if self._at.next.is_symbol("="):
                tokens.refuse(operator.at, "equality is one '=', its negation '!='")
            return operator.text == "!=", [self._at.literal(reading)]
        is_negated = operator.is_word("not")
        if is_negated:
            self._at.expect_word("in")
        elif not operator.is_word("in"):
            operator.refuse(_OPERATORS)
        self._at.expect_symbol("(", "'('")
        values: list[V] = []
        while not self._at.took_symbol(")"):
            if values:
                self._at.expect_symbol(",", "',' or ')'")
            values.append(self._at.literal(reading))
        return is_negated, values


def _refuse_operator(operator: Token, name: str, kind: AttributeType | None) -> NoReturn:
    fitting = []
    if kind in _MATCHED:
        fitting.append("= != in, not in")
    if kind in _ORDERED:
        fitting.append("< <= > >= between")
    if kind is AttributeType.GEO_POINT:
        fitting.append("within")
    kind_name = kind.value if kind else ""
    tokens.refuse(
        operator.at,
        f"{name!r} is of type {kind_name}, which takes {', '.join(fitting)} and is null, not {operator.text!r}",
    )


def _all_of(parts: Sequence[Condition]) -> Filter:
    """One filter, into which those go that are nothing but conjunctions themselves."""
    must: list[Condition] = []
    must_not: list[Condition] = []
    for part in parts:
        if isinstance(part, Filter) and not part.should:
            must.extend(part.must)
            must_not.extend(part.must_not)
        else:
            must.append(part)
    return Filter(must=tuple(must), must_not=tuple(must_not))
