"""The term dictionary: a number for each term, given once and for all. Terms of different analysers differ."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Sequence

import numpy as np

from engine.index.lexical.analysers import analyser
from engine.types import Analyser, Int64Array

_ENTRY_BYTES = 8 + 32 + 100
"""What a term takes beside its text: its place in the list, its number, and a slot of a dictionary two thirds full."""


class Vocabulary:
    """The terms of one analyser, in the order they came: ``texts`` [n] and their ``numbers`` [n]. Both only grow."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.numbers: list[int] = []
        self._number_of: dict[str, int] = {}

    def find(self, terms: Iterable[str]) -> Int64Array:
        """The number of each term, -1 for one that no text has had."""
        return np.array([self._number_of.get(term, -1) for term in terms], np.int64)

    def missing(self, terms: Iterable[str]) -> list[str]:
        """Those that have no number yet, each once."""
        return [term for term in dict.fromkeys(terms) if term not in self._number_of]

    def put(self, texts: Sequence[str], numbers: Sequence[int]) -> None:
        """Terms that are not there yet."""
        self._number_of.update(zip(texts, numbers, strict=True))
        self.texts.extend(texts)
        self.numbers.extend(numbers)

    def numbers_of(self, terms: Sequence[str]) -> Int64Array:
        """Of terms that are all there."""
        return np.fromiter(map(self._number_of.__getitem__, terms), np.int64, len(terms))


class Terms:
    """All vocabularies of a collection, which share the numbers. Read by any thread while others add terms."""

    def __init__(self, kinds: Iterable[Analyser]) -> None:
        self.vocabularies: dict[Analyser, Vocabulary] = {kind: Vocabulary() for kind in sorted(set(kinds))}
        self.memory_bytes = 0
        self._next = 0
        self._adding = threading.Lock()

    def add(self, kind: Analyser, terms: Sequence[str]) -> Int64Array:
        """The number of each term [n], new ones entered."""
        vocabulary = self.vocabularies[kind]
        with self._adding:
            self._put(kind, new := vocabulary.missing(terms), range(self._next, self._next + len(new)))
        return vocabulary.numbers_of(terms)

    def restore(self, kind: Analyser, texts: Sequence[str], numbers: Sequence[int]) -> None:
        """Enter terms with the numbers that they had; others never get one of these."""
        with self._adding:
            self._put(kind, texts, numbers)

    def of_query(self, text: str) -> Int64Array:
        """Numbers [q] of a query's terms that any text has had: analyser after analyser, each in the text's order."""
        numbers = [one.find(analyser(kind)(text)) for kind, one in self.vocabularies.items()]
        found = np.concatenate(numbers)
        return found[found >= 0]

    def _put(self, kind: Analyser, texts: Sequence[str], numbers: Sequence[int]) -> None:
        self.vocabularies[kind].put(texts, numbers)
        self._next = max(self._next, max(numbers, default=-1) + 1)
        self.memory_bytes += sum(map(sys.getsizeof, texts)) + len(texts) * _ENTRY_BYTES
