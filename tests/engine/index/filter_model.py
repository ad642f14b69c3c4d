"""What filters mean, item by item in plain Python, and Hypothesis strategies for items and filters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from engine.index.columns import Columns
from engine.index.lexical import LexicalIndex
from engine.types import (
    AttributeSpec,
    AttributeType,
    AttributeValue,
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
    TextField,
    Timestamp,
)

ATTRIBUTES = tuple(AttributeSpec(kind.value, kind) for kind in AttributeType)
TEXT = "text"
"""In the items of this model it stands beside the attributes; its words have neither stems nor signs."""
SCHEMA = Schema(
    "items",
    id_type="uint64",
    dimension=2,
    text_fields=(TextField("other", analyser="plain"), TextField(TEXT, analyser="english")),
    attributes=ATTRIBUTES,
)
N_IDS = 12

KEYWORDS = ["", "a", "b", "ü", "it's", "null", 'say "\\n"', "two words"]
INTS = [-(2**63), -1, 0, 1, 2**53, 2**53 + 1, 2**63 - 2, 2**63 - 1]
FLOATS = [-1e300, -(2.0**63), -0.0, 0.0, 5e-324, 0.1, 2.0**53, 2.0**53 + 2, 2.0**63]
TIMES = [Timestamp(micros) for micros in (-62_135_596_800_000_000, -1, 0, 1, 10**15, 253_402_300_799_999_999)]
POINTS = [GeoPoint(52.52, 13.4), GeoPoint(52.5, 13.3), GeoPoint(90.0, 0.0), GeoPoint(-90.0, 50.0), GeoPoint(0.0, 180.0)]
POINTS += [GeoPoint(0.0, -180.0), GeoPoint(-33.9, 151.2), GeoPoint(0.0, 0.0)]
RADII = [0.0, 1.0, 10_000.0, 5e6, 1.2e7, 3e7]
WORDS = ["red", "Red", "big", "ünder", "2024"]
BOUNDS: Mapping[str, list[Any]] = {
    "int": INTS,
    "float": [*FLOATS, -math.inf, math.inf, 0, 1, 2**53 + 1, 2**63 - 1, -(2**63), -(2**53) - 1],
    "timestamp": TIMES,
}
MATCHED: Mapping[str, list[Any]] = {
    "keyword": KEYWORDS,
    "keyword_list": KEYWORDS,
    "bool": [True, False],
    "int": INTS,
}


# What a filter means


def passes(tree: Filter, item_id: ItemId, attributes: Mapping[str, AttributeValue]) -> bool:
    should = sum(holds(one, item_id, attributes) for one in tree.should)
    minimum = min(1, len(tree.should)) if tree.min_should is None else tree.min_should
    return (
        all(holds(one, item_id, attributes) for one in tree.must)
        and not any(holds(one, item_id, attributes) for one in tree.must_not)
        and should >= minimum
    )


def holds(condition: Condition, item_id: ItemId, attributes: Mapping[str, AttributeValue]) -> bool:
    match condition:
        case Filter():
            return passes(condition, item_id, attributes)
        case HasId(ids):
            return item_id in ids
        case Contains(_, text):
            return set(text.lower().split()) <= set(str(attributes.get(TEXT, "")).lower().split())
    value = attributes.get(condition.attribute)
    if value is None or value == ():
        return isinstance(condition, IsNull)
    match condition:
        case Match(_, any_of, except_):
            own = set(value) if isinstance(value, tuple) else {value}
            return bool(own & set(any_of)) if any_of else not own & set(except_)
        case Range():
            return _in_range(value, condition)
        case GeoRadius(_, center, radius_m):
            assert isinstance(value, GeoPoint)
            return haversine_m(center, value) <= radius_m + 1e-6
    return False


def _in_range(value: Any, condition: Range) -> bool:
    """Python compares ints with floats exactly."""
    return (
        (condition.gt is None or value > condition.gt)
        and (condition.gte is None or value >= condition.gte)
        and (condition.lt is None or value < condition.lt)
        and (condition.lte is None or value <= condition.lte)
    )


def haversine_m(one: GeoPoint, other: GeoPoint) -> float:
    lat, other_lat = math.radians(one.lat), math.radians(other.lat)
    lon_step = math.radians(other.lon - one.lon)
    square = math.sin((other_lat - lat) / 2) ** 2
    square += math.cos(lat) * math.cos(other_lat) * math.sin(lon_step / 2) ** 2
    return 2 * 6_371_008.8 * math.asin(math.sqrt(min(1.0, square)))


# Items and filters


def _values() -> dict[str, st.SearchStrategy[Any]]:
    keywords = st.sampled_from(KEYWORDS)
    return {
        "keyword": keywords,
        "keyword_list": st.lists(keywords, max_size=3).map(tuple),
        "bool": st.booleans(),
        "int": st.sampled_from(INTS),
        "float": st.sampled_from(FLOATS),
        "timestamp": st.sampled_from(TIMES),
        "geo_point": st.sampled_from(POINTS),
        TEXT: _texts(0),
    }


def _texts(least: int) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(WORDS), min_size=least, max_size=4).map(" ".join)


items: st.SearchStrategy[list[dict[str, AttributeValue]]] = st.lists(
    st.fixed_dictionaries({}, optional=_values()), max_size=12
)


@st.composite
def _matches(draw: st.DrawFn) -> Match:
    attribute = draw(st.sampled_from(sorted(MATCHED)))
    values = tuple(draw(st.lists(st.sampled_from(MATCHED[attribute]), min_size=1, max_size=4)))
    return draw(st.sampled_from([Match(attribute, any_of=values), Match(attribute, except_=values)]))


@st.composite
def _ranges(draw: st.DrawFn) -> Range:
    attribute = draw(st.sampled_from(sorted(BOUNDS)))
    names = draw(st.lists(st.sampled_from(["gt", "gte", "lt", "lte"]), min_size=1, max_size=3, unique=True))
    return Range(attribute, **{name: draw(st.sampled_from(BOUNDS[attribute])) for name in names})


_leaves = st.one_of(
    _matches(),
    _ranges(),
    st.builds(GeoRadius, st.just("geo_point"), st.sampled_from(POINTS), st.sampled_from(RADII)),
    st.lists(st.integers(0, N_IDS + 2), max_size=5).map(lambda ids: HasId(tuple(ids))),
    st.sampled_from(ATTRIBUTES).map(lambda spec: IsNull(spec.name)),
    st.builds(Contains, st.just(TEXT), _texts(1)),
)


@st.composite
def _filters_of(draw: st.DrawFn, conditions: st.SearchStrategy[Condition]) -> Filter:
    some = st.lists(conditions, max_size=2).map(tuple)
    should = draw(st.lists(conditions, max_size=3).map(tuple))
    minimum = draw(st.none() | st.integers(0, len(should)))
    return Filter(must=draw(some), should=should, must_not=draw(some), min_should=minimum)


filters: st.SearchStrategy[Filter] = _filters_of(st.recursive(_leaves, _filters_of, max_leaves=6))


class TextColumns(Columns):
    """Columns and postings of the items above, which have one row each."""

    def __init__(self) -> None:
        super().__init__(ATTRIBUTES, LexicalIndex(SCHEMA))

    def append(self, rows: Sequence[Mapping[str, AttributeValue]]) -> None:
        first, texts = self.n_rows, [{TEXT: str(row.get(TEXT, ""))} for row in rows]
        super().append(rows)
        assert self.lexical is not None
        self.lexical.append(range(first, self.n_rows), [1] * len(rows), texts)
