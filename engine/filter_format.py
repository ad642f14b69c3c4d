"""Filter trees to the text form that ``engine.filter_text`` reads."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from engine.errors import InvalidArgument
from engine.filter_tokens import EPOCH, NAME, RESERVED, quoted
from engine.types import Condition, Contains, Filter, GeoRadius, HasId, IsNull, Match, Range, Timestamp

_SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def format_filter(filter: Filter) -> str:
    """Text that parses to a filter equal in what it passes; ``should`` that need not hold is left out.

    Raises:
        InvalidArgument: a match without values, a range without bounds, or a time outside the years 1 to 9999.
    """
    must = [_operand(one) for one in filter.must]
    must_not = [f"not {_operand(one)}" for one in filter.must_not]
    should = _should(filter)
    if " or " in should and (must or must_not):
        should = f"({should})"
    return " and ".join([*must, *([should] if should else []), *must_not])


def _should(filter: Filter) -> str:
    operands = [_operand(one) for one in filter.should]
    if not operands or filter.min_should == 0:
        return ""
    if filter.min_should in {None, 1}:
        return " or ".join(operands)
    return f"at least {filter.min_should} of ({', '.join(operands)})"


def _operand(condition: Condition) -> str:
    """Fit to stand behind ``not``."""
    match condition:
        case Match(attribute, any_of, except_):
            return _joined([*_match(attribute, any_of, "=", "in"), *_match(attribute, except_, "!=", "not in")])
        case Range():
            return _range(condition)
        case GeoRadius(attribute, center, radius_m):
            place = f"({float(center.lat)!r}, {float(center.lon)!r})"
            return f"{_name(attribute)} within {float(radius_m)!r} m of {place}"
        case HasId(ids):
            return f"id in ({', '.join(_literal(one) for one in ids)})"
        case IsNull(attribute):
            return f"{_name(attribute)} is null"
        case Contains(field, text):
            return f"{_name(field)} contains {quoted(text)}"
        case Filter():
            return f"({format_filter(condition)})"


def _match(attribute: str, values: Iterable[str | bool | int], one: str, many: str) -> list[str]:
    texts = [_literal(value) for value in values]
    if not texts:
        return []
    return [
        f"{_name(attribute)} {one} {texts[0]}" if len(texts) == 1 else f"{_name(attribute)} {many} ({', '.join(texts)})"
    ]


def _range(condition: Range) -> str:
    name = _name(condition.attribute)
    bounds = {sign: bound for key, sign in _SIGNS.items() if (bound := getattr(condition, key)) is not None}
    if bounds.keys() == {">=", "<="}:
        return f"{name} between {_literal(bounds['>='])} and {_literal(bounds['<='])}"
    return _joined([f"{name} {sign} {_literal(bound)}" for sign, bound in bounds.items()])


def _joined(clauses: list[str]) -> str:
    if not clauses:
        raise InvalidArgument("filter", "has a condition that compares with nothing, which text cannot say")
    return clauses[0] if len(clauses) == 1 else f"({' and '.join(clauses)})"


def _name(attribute: str) -> str:
    plain = NAME.fullmatch(attribute) and attribute.lower() not in RESERVED | {"id"}
    return attribute if plain else quoted(attribute)


def _literal(value: str | bool | float | Timestamp) -> str:
    match value:
        case str():
            return quoted(value)
        case bool():
            return "true" if value else "false"
        case Timestamp(micros):
            return _time(micros)
    return repr(value)


def _time(micros: int) -> str:
    try:
        return (EPOCH + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        raise InvalidArgument("filter", f"{micros} microseconds since 1970 is not in the years 1 to 9999") from None
