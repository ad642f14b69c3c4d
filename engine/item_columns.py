"""Many items as columns: ids, a vector each, attributes. Plain values; knows neither the wire nor the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.errors import InvalidArgument
from engine.types import AttributeType, AttributeValue, Float32Array, GeoPoint, Int64Array, Item, ItemId, Timestamp

IdColumn: TypeAlias = "npt.NDArray[np.uint64] | Sequence[str]"
BoolArray: TypeAlias = "npt.NDArray[np.bool_]"

_VALUE_OF: Mapping[AttributeType, Callable[[Any], AttributeValue]] = {
    AttributeType.TIMESTAMP: Timestamp,
    AttributeType.GEO_POINT: lambda point: GeoPoint(point[0], point[1]),
}
_NUMBERS: Mapping[AttributeType, type[np.generic]] = {
    AttributeType.BOOL: np.bool_,
    AttributeType.INT: np.int64,
    AttributeType.FLOAT: np.float64,
    AttributeType.TIMESTAMP: np.int64,
}


@dataclass(frozen=True, slots=True)
class ValueColumn:
    """One attribute of n items.

    ``values``: int64 [n] (ints; timestamps as microseconds since 1970), float64 [n], bool [n], float64 [n, 2] of
    latitudes and longitudes, n strings, or n tuples of strings. ``present`` [n]: which items have a value; what
    ``values`` has for the others means nothing.
    """

    type: AttributeType
    values: Any
    present: BoolArray

    def as_values(self) -> list[AttributeValue | None]:
        """As so many single items have them."""
        own = self.values.tolist() if isinstance(self.values, np.ndarray) else self.values
        make = _VALUE_OF.get(self.type)
        if make is None and self.present.all():
            return list(own)
        pairs = zip(own, self.present.tolist(), strict=True)
        return [(make(one) if make else one) if is_there else None for one, is_there in pairs]

    def take(self, places: Int64Array | slice) -> ValueColumn:
        """Those of some of the items."""
        return ValueColumn(self.type, taken(self.values, places), self.present[places])


@dataclass(frozen=True, slots=True)
class ItemColumns:
    """n items, each with one vector and no text: ids, ``vectors`` float32 [n, d], and a column for each attribute."""

    ids: IdColumn
    vectors: Float32Array
    attributes: Mapping[str, ValueColumn] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: Int64Array | slice) -> ItemColumns:
        """Some of the items."""
        attributes = {name: column.take(places) for name, column in self.attributes.items()}
        return ItemColumns(taken(self.ids, places), self.vectors[places], attributes)

    def id(self, place: int) -> ItemId:
        """One of the ids."""
        one = self.ids[place]
        return one if isinstance(one, str) else int(one)

    def item(self, place: int) -> Item:
        """One of the items, as it would be written alone."""
        attributes: dict[str, AttributeValue] = {}
        for name, column in self.attributes.items():
            (value,) = column.take(slice(place, place + 1)).as_values()
            if value is not None:
                attributes[name] = value
        return Item(self.id(place), {}, attributes, self.vectors[place])


@dataclass(frozen=True, slots=True)
class ColumnsChange:
    """Items that were not there, appended: item i has row ``first_row`` + i and sequence ``first_sequence`` + i."""

    first_sequence: int
    first_row: int
    ids: IdColumn
    attributes: Mapping[str, ValueColumn]

    @property
    def n_rows(self) -> int:
        return len(self.ids)

    @property
    def sequence(self) -> int:
        """Of the last of them."""
        return self.first_sequence + len(self.ids) - 1


def taken(values: Any, places: Int64Array | slice) -> Any:
    """``values[places]`` of an array or of a list."""
    if isinstance(values, np.ndarray) or isinstance(places, slice):
        return values[places]
    return [values[place] for place in places.tolist()]


def value_column(values: npt.NDArray[Any] | Sequence[AttributeValue | None], name: str) -> ValueColumn:
    """The column of an attribute ``name`` from its values, None where an item has none.

    Arrays may be of bools, ints, floats or datetime64 (UTC; NaT: none).

    Raises:
        InvalidArgument: they are not of one kind.
    """
    return _column_of_array(values, name) if isinstance(values, np.ndarray) else _column_of_values(values, name)


def _column_of_array(values: npt.NDArray[Any], name: str) -> ValueColumn:
    present = np.ones(len(values), np.bool_)
    if values.dtype.kind == "M":
        return ValueColumn(AttributeType.TIMESTAMP, values.astype("datetime64[us]").astype(np.int64), ~np.isnat(values))
    kinds = {"b": AttributeType.BOOL, "i": AttributeType.INT, "u": AttributeType.INT, "f": AttributeType.FLOAT}
    kind = kinds.get(values.dtype.kind)
    if kind is None or values.ndim != 1:
        return _column_of_values(values.tolist(), name)
    if values.dtype == np.uint64 and len(values) and values.max() > np.iinfo(np.int64).max:
        raise InvalidArgument(f"attributes[{name}]", f"{values.max()} is not in [-2**63, 2**63)")
    return ValueColumn(kind, values.astype(_NUMBERS[kind]), present)


def _column_of_values(values: Sequence[AttributeValue | None], name: str) -> ValueColumn:
    present = np.array([value is not None for value in values], np.bool_)
    kinds = {type(value) for value in values if value is not None}
    kind = _KINDS.get(frozenset(kinds))
    if kind is None:
        told = ", ".join(sorted(one.__name__ for one in kinds))
        raise InvalidArgument(f"attributes[{name}]", f"has values of {told}, which no attribute type has")
    if kind is AttributeType.KEYWORD:
        return ValueColumn(kind, ["" if value is None else value for value in values], present)
    if kind is AttributeType.KEYWORD_LIST:
        lists = [tuple(value) if isinstance(value, (tuple, list)) else () for value in values]
        return ValueColumn(kind, lists, present)
    if kind is AttributeType.GEO_POINT:
        points = [(value.lat, value.lon) if isinstance(value, GeoPoint) else (0.0, 0.0) for value in values]
        return ValueColumn(kind, np.array(points, np.float64).reshape(-1, 2), present)
    numbers = [value.micros if isinstance(value, Timestamp) else 0 if value is None else value for value in values]
    try:
        return ValueColumn(kind, np.array(numbers, _NUMBERS[kind]), present)
    except OverflowError:
        raise InvalidArgument(f"attributes[{name}]", "has a value that is not in [-2**63, 2**63)") from None


_KINDS: Mapping[frozenset[type], AttributeType] = {
    frozenset(): AttributeType.KEYWORD,
    frozenset([str]): AttributeType.KEYWORD,
    frozenset([tuple]): AttributeType.KEYWORD_LIST,
    frozenset([list]): AttributeType.KEYWORD_LIST,
    frozenset([tuple, list]): AttributeType.KEYWORD_LIST,
    frozenset([bool]): AttributeType.BOOL,
    frozenset([int]): AttributeType.INT,
    frozenset([float]): AttributeType.FLOAT,
    frozenset([int, float]): AttributeType.FLOAT,
    frozenset([Timestamp]): AttributeType.TIMESTAMP,
    frozenset([GeoPoint]): AttributeType.GEO_POINT,
}
