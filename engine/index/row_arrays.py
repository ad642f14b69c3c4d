"""What rows and columns hold, as flat arrays by name, taken beside searches and made into rows and columns again.

Only live items are kept: dead rows come back as rows that were never written. Knows no files.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from engine.index.column_types import Part
from engine.index.columns import Columns
from engine.index.growing import GrowingArray, GrowingMask
from engine.index.lexical import lexical_arrays
from engine.index.postings import Postings
from engine.index.rows import Rows
from engine.types import AttributeSpec, IdType, Int64Array, Uint8Array

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]

_SLICE_SECONDS = 0.002
_CHUNK = 1024


class Capture:
    """Rows and columns as of one sequence number. Made, and stepped, in the search lane's thread.

    Exact are which items live and where. What columns hold of these rows may be of a later time, if something was
    changed in place meanwhile: whoever reads it does the changes since then again. Rows that were appended meanwhile
    are left out when it is read. So nothing large is copied: most arrays are views.
    """

    def __init__(self, rows: Rows, columns: Columns) -> None:
        self.n_rows = rows.n_rows
        self.arrays: dict[str, npt.NDArray[Any]] = {}
        self._living = rows.living_bits()
        self._first, self._born, self._ids = rows.first_rows, rows.born, rows.ids
        self._postings: dict[str, Postings] = {}
        self._lexical = columns.lexical.moment() if columns.lexical is not None else None
        for name, column in columns.by_name():
            for part_name, part in column.parts.items():
                self._take(_name(name, part_name), part)
        self._pieces = self._in_pieces()

    def find_items(self) -> None:
        """Before the first step; outside the GIL for the most part, so in any thread."""
        live = np.flatnonzero(np.unpackbits(self._living, bitorder="little"))
        places = np.flatnonzero(self._first[live] == live)
        first_rows = live[places]
        self.arrays |= {
            "first_rows": first_rows,
            "n_rows": np.diff(places, append=len(live)),
            "born": self._born[first_rows],
        }
        if self._lexical is not None:
            self.arrays |= lexical_arrays(self._lexical, self._living)

    def step(self) -> bool:
        """About 2 ms of the work; True while there is more."""
        end = time.perf_counter() + _SLICE_SECONDS
        return any(time.perf_counter() >= end for _ in self._pieces)

    def _take(self, name: str, part: Part) -> None:
        if isinstance(part, GrowingArray):
            self.arrays[name] = part.values
        elif isinstance(part, GrowingMask):
            self.arrays[name] = part.bits
        else:
            self._postings[name] = part

    def _in_pieces(self) -> Iterator[None]:
        first_rows = self.arrays["first_rows"]
        if self._ids.dtype == np.uint64:
            self.arrays["ids"] = self._ids[first_rows]
        else:
            yield from self._put_strings("ids", (self._ids[rows].tolist() for rows in _chunks(first_rows)))
        for name, postings in self._postings.items():
            yield from self._put_postings(name, postings)

    def _put_postings(self, name: str, postings: Postings) -> Iterator[None]:
        forms: dict[str, list[Any]] = {"single": [], "map": [], "mask": []}
        rows: list[Int64Array] = []
        maps: list[bytes] = []
        for words in _chunks(postings.keywords):
            held = [postings.held(word) for word in words]
            single = [place for place, one in enumerate(held) if isinstance(one, int)]
            forms["single"] += [words[place] for place in single]
            rows.append(np.array([held[place] for place in single], np.int64))
            yield
            for word, one in zip(words, held, strict=True):
                if isinstance(one, BitMap):
                    forms["map"].append(word)
                    maps.append(one.serialize())
                    yield
                elif isinstance(one, GrowingMask):
                    self.arrays[f"{name}/mask/{len(forms['mask'])}"] = one.bits
                    forms["mask"].append(word)
        self.arrays[f"{name}/single/rows"] = np.concatenate([np.zeros(0, np.int64), *rows])
        self.arrays[f"{name}/map/rows"] = _bytes(b"".join(maps))
        self.arrays[f"{name}/map/ends"] = np.cumsum([len(one) for one in maps], dtype=np.int64)
        for form, words in forms.items():
            yield from self._put_strings(f"{name}/{form}", _chunks(words))

    def _put_strings(self, name: str, chunks: Iterable[list[Any]]) -> Iterator[None]:
        """Each as a line of JSON: quick to make and to read whatever is in them."""
        lines = []
        for strings in chunks:
            lines.append(json.dumps(strings).encode())
            yield
        self.arrays[name] = _bytes(b"\n".join(lines))


def rows_from(arrays: Arrays, id_type: IdType, n_rows: int) -> Rows:
    """
    Raises:
        KeyError, TypeError, ValueError, IndexError: the arrays are not of that many rows, or not of such ids.
    """
    rows = Rows(id_type)
    ids = arrays["ids"] if id_type == "uint64" else _strings(arrays["ids"])
    rows.add_many(ids, arrays["first_rows"], arrays["n_rows"], born=arrays["born"])
    rows.skip_to(n_rows)
    if rows.n_rows != n_rows:
        raise ValueError(f"items have rows up to {rows.n_rows} where there are {n_rows}")
    return rows


def columns_from(arrays: Arrays, attributes: Sequence[AttributeSpec], n_rows: int) -> Columns:
    """
    Raises:
        KeyError, TypeError, ValueError, IndexError: the arrays are not of that many rows and these attributes.
    """
    columns = Columns(attributes)
    for name, column in columns.by_name():
        for part_name, part in column.parts.items():
            _fill(part, _name(name, part_name), arrays, n_rows)
    columns.n_rows = n_rows
    return columns


def _name(attribute: str, part: str) -> str:
    return f"columns/{attribute}/{part}"


def _fill(part: Part, name: str, arrays: Arrays, n_rows: int) -> None:
    if isinstance(part, GrowingArray):
        part.append(arrays[name], n_rows)
    elif isinstance(part, GrowingMask):
        part.append_bits(arrays[name], n_rows)
    else:
        _fill_postings(part, name, arrays, n_rows)


def _fill_postings(postings: Postings, name: str, arrays: Arrays, n_rows: int) -> None:
    single, rows = _strings(arrays[f"{name}/single"]), arrays[f"{name}/single/rows"]
    if len(rows) and rows.max() >= n_rows:
        single = [word for word, row in zip(single, rows.tolist(), strict=True) if row < n_rows]
        rows = rows[rows < n_rows]
    postings.put_single(single, rows.tolist())
    ends, maps = [0, *arrays[f"{name}/map/ends"].tolist()], arrays[f"{name}/map/rows"].tobytes()
    for word, (first, end) in zip(_strings(arrays[f"{name}/map"]), pairwise(ends), strict=True):
        bitmap = BitMap.deserialize(maps[first:end])
        if bitmap.max() >= n_rows:
            bitmap.remove_range(n_rows, bitmap.max() + 1)
        postings.put_rows(word, bitmap)
    for number, word in enumerate(_strings(arrays[f"{name}/mask"])):
        bits = arrays[f"{name}/mask/{number}"]
        mask = GrowingMask()
        mask.append_bits(bits, min(n_rows, 8 * len(bits)))
        postings.put_rows(word, mask)


def _chunks(values: Any) -> Iterator[Any]:
    return (values[first : first + _CHUNK] for first in range(0, len(values), _CHUNK))


def _bytes(text: bytes) -> Uint8Array:
    return np.frombuffer(text, np.uint8)


def _strings(lines: Uint8Array) -> list[str]:
    return [one for line in lines.tobytes().split(b"\n") if line for one in json.loads(line)]
