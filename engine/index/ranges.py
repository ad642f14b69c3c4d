"""Range conditions to intervals in the attribute's own numbers: exact, whatever mix of bounds was given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from engine.errors import InvalidArgument
from engine.index.column_types import Interval
from engine.types import AttributeSpec, AttributeType, Range, Timestamp

_INT64 = range(-(2**63), 2**63)
_BOUNDS = ("gt", "gte", "lt", "lte")
_NO_INT = Interval(low=1, high=0)


def interval_of(condition: Range, spec: AttributeSpec, field: str) -> Interval:
    """The numbers that lie within every bound.

    Raises:
        InvalidArgument: the attribute has no order, there is no bound, or one is not of the attribute's type.
    """
    bound_of = _BOUND_OF.get(spec.type)
    if bound_of is None:
        raise InvalidArgument(
            f"{field}.attribute", f"{spec.name!r} is of type {spec.type.value}: range takes ints, floats and timestamps"
        )
    given = {name: bound for name in _BOUNDS if (bound := getattr(condition, name)) is not None}
    if not given:
        raise InvalidArgument(field, "set at least one of gt, gte, lt and lte")
    interval = Interval()
    for name, bound in given.items():
        interval = interval.intersection(bound_of(name, bound, f"{field}.{name}"))
    return interval


def _int_bound(name: str, bound: object, field: str) -> Interval:
    if not isinstance(bound, int) or isinstance(bound, bool):
        raise InvalidArgument(field, f"{bound!r} is not an int, which the attribute is")
    return _closed(name, _in_int64(bound, field))


def _timestamp_bound(name: str, bound: object, field: str) -> Interval:
    if not isinstance(bound, Timestamp):
        raise InvalidArgument(field, f"{bound!r} is not a timestamp, which the attribute is")
    return _closed(name, _in_int64(bound.micros, field))


def _float_bound(name: str, bound: object, field: str) -> Interval:
    """An int that no float equals lies between two; the bound moves to the nearer one, which then is open or not."""
    if not isinstance(bound, (int, float)) or isinstance(bound, bool):
        raise InvalidArgument(field, f"{bound!r} is not a number, which the attribute is")
    if math.isnan(bound):
        raise InvalidArgument(field, "is NaN, which compares with nothing")
    exact = _in_int64(bound, field) if isinstance(bound, int) else bound
    near = float(exact) + 0.0  # no minus zero, which is equal but not written alike
    if name in {"gt", "gte"}:
        return Interval(low=near, low_open=near < exact or (near == exact and name == "gt"))
    return Interval(high=near, high_open=near > exact or (near == exact and name == "lt"))


def _closed(name: str, bound: int) -> Interval:
    """Ints have neighbours, so that no end needs to be open."""
    low, high = bound + (name == "gt"), bound - (name == "lt")
    if name in {"gt", "gte"}:
        return Interval(low=low) if low in _INT64 else _NO_INT
    return Interval(high=high) if high in _INT64 else _NO_INT


def _in_int64(bound: int, field: str) -> int:
    if bound not in _INT64:
        raise InvalidArgument(field, f"{bound} is not in [-2**63, 2**63)")
    return bound


_BOUND_OF: Mapping[AttributeType, Callable[[str, object, str], Interval]] = {
    AttributeType.INT: _int_bound,
    AttributeType.FLOAT: _float_bound,
    AttributeType.TIMESTAMP: _timestamp_bound,
}
