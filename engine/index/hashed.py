"""Places of a row's keywords: bits that say which of some places its keywords have, kept beside a keyword column.

Postings say which rows have a keyword; these say the other way round what a row has. Search lane only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt

from engine.types import Float32Array, Int64Array


@dataclass(frozen=True, slots=True)
class Buckets:
    """A keyword's place is the CRC-32 of its UTF-8 modulo ``width``."""

    width: int

    def finder(self) -> Callable[[str], int | None]:
        return lambda keyword: crc32(keyword.encode()) % self.width


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A keyword's place is its own among ``keywords``; others have none."""

    keywords: tuple[str, ...]

    @property
    def width(self) -> int:
        return len(self.keywords)

    def finder(self) -> Callable[[str], int | None]:
        return {keyword: place for place, keyword in enumerate(self.keywords)}.get


Places: TypeAlias = Buckets | Vocabulary


class KeywordPlaces:
    """Bits [rows, width], a byte for eight places; rows beyond the last that has any take no memory."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self._place_of = places.finder()
        self._bits = np.zeros((0, (places.width + 7) // 8), np.uint8)

    @property
    def memory_bytes(self) -> int:
        return self._bits.nbytes

    def add(self, keyword: str, rows: Sequence[int] | Int64Array) -> None:
        """Rows that have a keyword, whichever they had before."""
        place = self._place_of(keyword)
        if place is None or not len(rows):
            return
        at: npt.NDArray[np.int64] = np.asarray(rows, np.int64)
        most = int(at.max()) + 1
        if most > len(self._bits):
            grown = np.zeros((max(most, 2 * len(self._bits), 1024), self._bits.shape[1]), np.uint8)
            grown[: len(self._bits)] = self._bits
            self._bits = grown
        self._bits[at, place >> 3] |= np.uint8(1 << (place & 7))

    def of(self, rows: Int64Array) -> Float32Array:
        """float32 [n, width] of rows [n], 0 and 1."""
        known = rows < len(self._bits)
        found = np.zeros((len(rows), self._bits.shape[1]), np.uint8)
        found[known] = self._bits[rows[known]]
        return np.unpackbits(found, axis=1, count=self.places.width, bitorder="little").astype(np.float32)
