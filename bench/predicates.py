"""Attributes of rows and the conditions asked of them, in the forms that the measured engines want them in. Pure.

Half-open ranges of ints and any-of over keywords, all of which must hold: what every engine here can be asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.item_columns import ValueColumn, value_column
from engine.types import AttributeSpec, AttributeType, Filter, Int64Array, Match, Range

BoolArray = npt.NDArray[np.bool_]

VARIANTS = 4096
"""Ranges leave room to be moved up by less than this; see ``Predicate.varied``."""


@dataclass(frozen=True)
class Keywords:
    """One or several keywords a row: row r has ``values[codes[starts[r] : starts[r + 1]]]``.

    codes int32 [m], starts int64 [n + 1]; ``is_list`` tells a list of keywords from a single one.
    """

    values: tuple[str, ...]
    codes: npt.NDArray[np.int32]
    starts: Int64Array
    is_list: bool

    @cached_property
    def code_of(self) -> dict[str, int]:
        return {value: code for code, value in enumerate(self.values)}

    @cached_property
    def row_of_code(self) -> Int64Array:
        """The row of each of ``codes``: int64 [m]."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def any_of(self, values: tuple[str, ...]) -> BoolArray:
        """Rows with at least one of the values: bool [n]."""
        wanted = np.zeros(len(self.values), np.bool_)
        wanted[[self.code_of[value] for value in values]] = True
        passing = np.zeros(len(self.starts) - 1, np.bool_)
        passing[self.row_of_code[wanted[self.codes]]] = True
        return passing


def single_keywords(values: tuple[str, ...], codes: npt.NDArray[np.int32]) -> Keywords:
    return Keywords(values, codes, np.arange(len(codes) + 1, dtype=np.int64), is_list=False)


def keyword_lists(lists: list[tuple[str, ...]]) -> Keywords:
    """Values in the order of their first appearance."""
    code_of: dict[str, int] = {}
    codes = [code_of.setdefault(value, len(code_of)) for one in lists for value in one]
    starts = np.concatenate([[0], np.cumsum([len(one) for one in lists])])
    return Keywords(tuple(code_of), np.asarray(codes, np.int32), starts.astype(np.int64), is_list=True)


@dataclass(frozen=True, slots=True)
class Attributes:
    """Columns over n rows, by name."""

    ints: Mapping[str, Int64Array]
    keywords: Mapping[str, Keywords]
    floats: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        return len(next(iter(self.ints.values())))

    def columns(self) -> list[npt.NDArray[Any]]:
        """All that the attributes consist of but for their names, for a hash."""
        arrays: list[npt.NDArray[Any]] = [*self.ints.values(), *self.floats.values()]
        for one in self.keywords.values():
            arrays += [one.codes, one.starts, np.array([len(one.values)])]
        return arrays

    def specs(self) -> tuple[AttributeSpec, ...]:
        """As a schema declares them; not stored, only filtered on."""
        ints = [AttributeSpec(name, AttributeType.INT, stored=False) for name in self.ints]
        kinds = {False: AttributeType.KEYWORD, True: AttributeType.KEYWORD_LIST}
        keywords = [AttributeSpec(name, kinds[one.is_list], stored=False) for name, one in self.keywords.items()]
        floats = [AttributeSpec(name, AttributeType.FLOAT, stored=False) for name in self.floats]
        return (*ints, *keywords, *floats)

    def of_rows(self, first: int, end: int) -> dict[str, ValueColumn]:
        """What items of rows [first, end) carry, as columns."""
        columns = {
            name: value_column(values[first:end], name) for name, values in (*self.ints.items(), *self.floats.items())
        }
        for name, keywords in self.keywords.items():
            lists = [
                tuple(keywords.values[code] for code in keywords.codes[start:stop].tolist())
                for start, stop in zip(keywords.starts[first:end], keywords.starts[first + 1 : end + 1], strict=True)
            ]
            columns[name] = value_column(lists if keywords.is_list else [one[0] for one in lists], name)
        return columns


@dataclass(frozen=True, slots=True)
class IntRange:
    """low <= value < end."""

    attribute: str
    low: int
    end: int


@dataclass(frozen=True, slots=True)
class AnyOf:
    attribute: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Predicate:
    """All of these hold; an empty one passes every row."""

    ranges: tuple[IntRange, ...] = ()
    keywords: tuple[AnyOf, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.ranges or self.keywords)

    def filter(self) -> Filter:
        """As a search asks for it."""
        ranges = [Range(one.attribute, gte=one.low, lt=one.end) for one in self.ranges]
        return Filter(must=(*ranges, *(Match(one.attribute, any_of=one.values) for one in self.keywords)))

    def mask(self, attributes: Attributes) -> BoolArray:
        """The rows that pass, by NumPy: bool [n]. What every other form is checked against."""
        passing = np.ones(attributes.n_rows, np.bool_)
        for one in self.ranges:
            column = attributes.ints[one.attribute]
            passing &= (column >= one.low) & (column < one.end)
        for wanted in self.keywords:
            passing &= attributes.keywords[wanted.attribute].any_of(wanted.values)
        return passing

    def varied(self, number: int, *, everywhere: str) -> Predicate:
        """Another predicate that passes about as many rows, and that no cache has met under an earlier number.

        Ranges move up by ``number``; where there is none, one is added over the int attribute ``everywhere``, whose
        values are 0 to n - 1, that leaves out the first ``number`` rows.
        """
        if number == 0 or self.is_empty:
            return self
        if not self.ranges:
            return replace(self, ranges=(IntRange(everywhere, number, 1 << 40),))
        moved = tuple(IntRange(one.attribute, one.low + number, one.end + number) for one in self.ranges)
        return replace(self, ranges=moved)
