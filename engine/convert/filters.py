"""Filters: trees of conditions."""

from __future__ import annotations

from collections.abc import Iterable

from engine import types
from engine.convert.ids import item_ids_from, item_ids_to
from engine.convert.times import timestamp, timestamp_from
from engine.errors import InvalidArgument
from engine.v1 import common_pb2


def filter_from(message: common_pb2.Filter, field: str = "filter") -> types.Filter:
    return types.Filter(
        must=_conditions_from(message.must, f"{field}.must"),
        should=_conditions_from(message.should, f"{field}.should"),
        must_not=_conditions_from(message.must_not, f"{field}.must_not"),
        min_should=message.min_should if message.HasField("min_should") else None,
    )


def _conditions_from(messages: Iterable[common_pb2.Condition], field: str) -> tuple[types.Condition, ...]:
    return tuple(_condition_from(message, f"{field}[{i}]") for i, message in enumerate(messages))


def _condition_from(message: common_pb2.Condition, field: str) -> types.Condition:
    match message.WhichOneof("kind"):
        case "match":
            return _match_from(message.match, f"{field}.match")
        case "range":
            return _range_from(message.range, f"{field}.range")
        case "geo_radius":
            geo = message.geo_radius
            return types.GeoRadius(geo.attribute, types.GeoPoint(geo.center.lat, geo.center.lon), geo.radius_m)
        case "has_id":
            return types.HasId(item_ids_from(message.has_id.ids, f"{field}.has_id.ids"))
        case "is_null":
            return types.IsNull(message.is_null.attribute)
        case "contains":
            return types.Contains(message.contains.field, message.contains.text)
        case "filter":
            return filter_from(message.filter, f"{field}.filter")
    raise InvalidArgument(field, "is empty: set one kind of condition")


def _match_from(message: common_pb2.Match, field: str) -> types.Match:
    if message.HasField("any_of") == message.HasField("except_any"):
        raise InvalidArgument(field, "set exactly one of any_of and except_any")
    which = "any_of" if message.HasField("any_of") else "except_any"
    values = getattr(message, which)
    kinds: list[tuple[str | int | bool, ...]] = [
        tuple(kind) for kind in (values.keywords, values.integers, values.booleans) if kind
    ]
    if len(kinds) != 1:
        raise InvalidArgument(f"{field}.{which}", "give values, all of one kind")
    if which == "any_of":
        return types.Match(message.attribute, any_of=kinds[0])
    return types.Match(message.attribute, except_=kinds[0])


def _range_from(message: common_pb2.Range, field: str) -> types.Range:
    bounds = {
        name: _bound_from(getattr(message, name), f"{field}.{name}")
        for name in ("gt", "gte", "lt", "lte")
        if message.HasField(name)
    }
    return types.Range(message.attribute, **bounds)


def _bound_from(message: common_pb2.Bound, field: str) -> int | float | types.Timestamp:
    match message.WhichOneof("kind"):
        case "integer":
            return int(message.integer)
        case "number":
            return float(message.number)
        case "timestamp":
            return timestamp_from(message.timestamp)
    raise InvalidArgument(field, "is empty: set integer, number or timestamp")


def filter_to(tree: types.Filter) -> common_pb2.Filter:
    return common_pb2.Filter(
        must=[_condition_to(one) for one in tree.must],
        should=[_condition_to(one) for one in tree.should],
        must_not=[_condition_to(one) for one in tree.must_not],
        min_should=tree.min_should,
    )


def _condition_to(condition: types.Condition) -> common_pb2.Condition:
    match condition:
        case types.Match():
            return common_pb2.Condition(match=_match_to(condition))
        case types.Range():
            return common_pb2.Condition(range=_range_to(condition))
        case types.GeoRadius(attribute, center, radius_m):
            point = common_pb2.GeoPoint(lat=center.lat, lon=center.lon)
            return common_pb2.Condition(
                geo_radius=common_pb2.GeoRadius(attribute=attribute, center=point, radius_m=radius_m)
            )
        case types.HasId(ids):
            return common_pb2.Condition(has_id=common_pb2.HasId(ids=item_ids_to(ids)))
        case types.IsNull(attribute):
            return common_pb2.Condition(is_null=common_pb2.IsNull(attribute=attribute))
        case types.Contains(field, text):
            return common_pb2.Condition(contains=common_pb2.Contains(field=field, text=text))
        case types.Filter():
            return common_pb2.Condition(filter=filter_to(condition))


def _match_to(condition: types.Match) -> common_pb2.Match:
    values = condition.any_of or condition.except_
    message = common_pb2.MatchValues()
    if values and isinstance(values[0], bool):
        message.booleans.extend(bool(value) for value in values)
    elif values and isinstance(values[0], int):
        message.integers.extend(int(value) for value in values)
    else:
        message.keywords.extend(str(value) for value in values)
    if condition.except_:
        return common_pb2.Match(attribute=condition.attribute, except_any=message)
    return common_pb2.Match(attribute=condition.attribute, any_of=message)


def _range_to(condition: types.Range) -> common_pb2.Range:
    message = common_pb2.Range(attribute=condition.attribute)
    for name in ("gt", "gte", "lt", "lte"):
        bound = getattr(condition, name)
        match bound:
            case None:
                continue
            case types.Timestamp(micros):
                getattr(message, name).timestamp.CopyFrom(timestamp(micros))
            case int():
                getattr(message, name).integer = bound
            case _:
                getattr(message, name).number = bound
    return message
