"""What the filtered benches search: vectors, attributes, queries each with a filter of its own, and the exact truth.

Three sets: short texts as MiniLM embeddings with noise (a million rows), mnist784, and lists of skills. All of it
follows from the development data and fixed seeds. Nothing here knows an engine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bench import datasets, filtered_texts
from bench.cache import cached_array, content_key
from bench.harness import SEED, progress
from bench.predicates import VARIANTS, AnyOf, Attributes, IntRange, Keywords, Predicate, keyword_lists, single_keywords
from engine.models.protocol import Encoder
from engine.types import Float32Array, Int64Array, Metric

K_MAX = 100
SHUFFLED = "shuffled"
"""An int attribute that has nothing to do with the vectors: the values 0 to n - 1 in random order."""
PLACE = "place"
"""An int attribute that goes with the vectors: 0 to n - 1 along a chain of clusters, at random within each."""
COLOUR = "colour"
"""Ten keywords, drawn at random."""

_COLOURS = ("amber", "black", "coral", "green", "ivory", "mauve", "ochre", "pearl", "topaz", "white")
_SHARES = {0.5: (8, 0.625), 0.1: (2, 0.5)}
"""By pass rate: how many colours are asked for, and the range's share; below, one colour and ten times the rate."""
_CLUSTERS = 256
_HELD_OUT = 2048
_NOISE = 0.5
_DIMENSION = 128
_BLOCK = 1 << 16
_QUERIES_AT_ONCE = 64
_GATHERED_RATE = 0.02


@dataclass(frozen=True, slots=True)
class Cell:
    """A kind of filter at a pass rate; the rate is 1 where there is none."""

    kind: str
    rate: float

    @property
    def name(self) -> str:
        return self.kind if self.rate == 1 else f"{self.kind} {self.rate:.4%}".rstrip("0%").rstrip(".") + "%"


UNFILTERED = Cell("unfiltered", 1.0)


@dataclass(frozen=True)
class FilteredSet:
    """Rows float32 [n, d], queries float32 [Q, d], and for each cell one predicate a query.

    Even queries are for choosing settings, odd ones for measuring: the two never overlap.
    """

    name: str
    metric: Metric
    items: Float32Array
    queries: Float32Array
    attributes: Attributes
    predicates: Mapping[Cell, Sequence[Predicate]]

    @cached_property
    def key(self) -> str:
        """Of everything an index over the rows depends on."""
        return content_key(self.name, self.metric, self.items)

    def survivors_expected(self, cell: Cell) -> int:
        return round(cell.rate * len(self.items))

    def truth(self, cell: Cell) -> Int64Array:
        """The best rows that pass, int64 [Q, K_MAX], best first, ties to the smaller row, padded with -1; cached."""
        told = [repr(predicate) for predicate in self.predicates[cell]]
        key = content_key(self.key, self.queries, told, *self.attributes.columns())
        return cached_array(f"{self.name}-truth", key, lambda: self._truth(cell))

    def _truth(self, cell: Cell) -> Int64Array:
        found = np.full((len(self.queries), K_MAX), -1, np.int64)
        for first in range(0, len(self.queries), _QUERIES_AT_ONCE):
            queries = self.queries[first : first + _QUERIES_AT_ONCE]
            # One product for all queries where their filters keep much of it, else only what each of them keeps.
            scored = scores_of(self.items, queries, self.metric) if cell.rate > _GATHERED_RATE else None
            for place, query in enumerate(queries):
                rows = np.flatnonzero(self.predicates[cell][first + place].mask(self.attributes))
                scores = scores_of(self.items[rows], query, self.metric) if scored is None else scored[place][rows]
                best = best_of(rows, scores, K_MAX)
                found[first + place, : len(best)] = best
        return found


def scores_of(items: Float32Array, queries: Float32Array, metric: Metric) -> Float32Array:
    """Float32 scores [B, n], or [n] of one query; larger is better; l2 lacks the query's own length."""
    products: Float32Array = queries @ items.T
    return 2 * products - np.einsum("nd,nd->n", items, items) if metric == "l2" else products


def best_of(rows: Int64Array, scores: Float32Array, k: int) -> Int64Array:
    """Of ascending rows with their scores the best k at most, best first, ties to the smaller row."""
    if len(scores) > k:
        # All that tie with the k-th stay in until they are ordered.
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        kept = np.flatnonzero(scores >= least)
        rows, scores = rows[kept], scores[kept]
    best: Int64Array = rows[np.argsort(-scores, kind="stable")[:k]]
    return best


# The sets


def short_texts(data: Path, encoder: Encoder, *, n_rows: int, n_queries: int) -> FilteredSet:
    """MiniLM embeddings of short texts with noise, reduced to 128 dimensions by a fixed PCA, of length 1.

    Queries are texts that are no item, with the same noise.
    """
    made = filtered_texts.title_embeddings(data, encoder)
    key = content_key("noisy", str((n_rows, _HELD_OUT, _NOISE, _DIMENSION, SEED)), made)
    vectors = cached_array("short-texts-noisy", key, lambda: _noisy_reduced(made, n_rows))
    items, queries = vectors[:n_rows], vectors[n_rows : n_rows + n_queries]
    return _synthetic("minilm", "dot", items, queries, rates=(0.5, 0.1, 0.01, 0.001, 0.0001))


def mnist784(data: Path, *, n_queries: int) -> FilteredSet:
    """Images; beside the synthetic attributes the digit they show, asked for as the query's own and as another."""
    rows = datasets.mnist784(data)
    with np.load(data / "mnist784" / "mnist784_u8.npz") as arrays:
        labels, asked = arrays["train_labels"].astype(np.int32), arrays["test_labels"][:n_queries].tolist()
    queries = rows.queries[:n_queries]
    made = _synthetic("mnist784", "l2", rows.items, queries, rates=(0.5, 0.1, 0.01, 0.001))
    digits = single_keywords(tuple(map(str, range(10))), labels)
    attributes = Attributes(made.attributes.ints, {**made.attributes.keywords, "digit": digits})
    own = [Predicate(keywords=(AnyOf("digit", (str(digit),)),)) for digit in asked]
    other = [Predicate(keywords=(AnyOf("digit", (str((digit + 5) % 10),)),)) for digit in asked]
    predicates = {**made.predicates, Cell("own digit", 0.1): own, Cell("other digit", 0.1): other}
    return FilteredSet(made.name, made.metric, made.items, made.queries, attributes, predicates)


def skills(data: Path, encoder: Encoder, *, n_queries: int) -> FilteredSet:
    """Lists of skills, asked for any of some skills: those of the query's own list, and those of another's."""
    made = filtered_texts.skills(data, encoder)
    order = np.random.default_rng(SEED).permutation(len(made.lists))
    held, kept = order[:n_queries], np.sort(order[_HELD_OUT:])
    keywords = keyword_lists([made.lists[row] for row in kept])
    ints = {SHUFFLED: np.random.default_rng(SEED).permutation(len(kept)).astype(np.int64)}
    attributes = Attributes(ints, {"skill": keywords})
    own, other = [made.lists[row] for row in held], [made.lists[row] for row in order[n_queries : 2 * n_queries]]
    predicates: dict[Cell, Sequence[Predicate]] = {UNFILTERED: [Predicate()] * n_queries}
    for rate in (0.1, 0.01, 0.001):
        predicates[Cell("own skills", rate)] = _any_skills(keywords, own, rate)
        predicates[Cell("other skills", rate)] = _any_skills(keywords, other, rate)
    unit = made.embeddings
    return FilteredSet("skills", "dot", unit[kept], unit[held], attributes, predicates)


def _noisy_reduced(made: Float32Array, n_rows: int) -> Float32Array:
    """float32 [n_rows + held out, 128]: the items, then the queries."""
    order = np.random.default_rng(SEED).permutation(len(made))
    axes = principal_axes(made, _DIMENSION)
    items = (made[order[_HELD_OUT:]] @ axes, n_rows, 1)
    queries = (made[order[:_HELD_OUT]] @ axes, _HELD_OUT, 2)
    return np.concatenate([noisy_rows(texts, n, noise=_NOISE, seed=SEED + step) for texts, n, step in (items, queries)])


def principal_axes(vectors: Float32Array, d: int) -> Float32Array:
    """The d directions of the largest variance, float32 [D, d], orthonormal; the vectors' mean is left where it is."""
    centred = (vectors - vectors.mean(axis=0)).astype(np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    # An axis has no sign of its own: its largest component is made positive.
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    chosen: Float32Array = (axes * np.sign(largest))[:, ::-1][:, :d].astype(np.float32)
    return chosen


def noisy_rows(texts: Float32Array, n_rows: int, *, noise: float, seed: int) -> Float32Array:
    """float32 [n_rows, d] of length 1: the texts over and over, each with Gaussian noise of length ``noise`` in all."""
    parts = []
    for first in range(0, n_rows, _BLOCK):
        rows = np.arange(first, min(first + _BLOCK, n_rows)) % len(texts)
        parts.append(datasets.noisy_copies(_unit(texts[rows]), len(rows), noise=noise, seed=seed + first))
        progress.print(f"  [dim]{first + len(rows):,} of {n_rows:,} rows made[/dim]")
    return np.concatenate(parts)


def _unit(vectors: Float32Array) -> Float32Array:
    unit: Float32Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


# Attributes and filters


def _synthetic(
    name: str, metric: Metric, items: Float32Array, queries: Float32Array, *, rates: Sequence[float]
) -> FilteredSet:
    """Three kinds of filter: with no relation to the vectors, for rows near the query, and for rows far from it."""
    rng = np.random.default_rng(SEED)
    key = content_key("places", str((_CLUSTERS, SEED)), items, queries)
    places = cached_array(f"{name}-places", key, lambda: _places(items, queries))
    colours: Keywords = single_keywords(_COLOURS, rng.integers(0, len(_COLOURS), len(items), dtype=np.int32))
    ints = {SHUFFLED: rng.permutation(len(items)).astype(np.int64), PLACE: places[: len(items)]}
    predicates: dict[Cell, Sequence[Predicate]] = {UNFILTERED: [Predicate()] * len(queries)}
    for rate in rates:
        predicates[Cell("independent", rate)] = _independent(rng, len(items), len(queries), rate)
        predicates[Cell("near", rate)] = _around(places[len(items) :], len(items), rate, share=0.0)
        predicates[Cell("far", rate)] = _around(places[len(items) :], len(items), rate, share=0.5)
    return FilteredSet(name, metric, items, queries, Attributes(ints, {COLOUR: colours}), predicates)


def _independent(rng: np.random.Generator, n: int, n_queries: int, rate: float) -> list[Predicate]:
    """Alternately a range, and a range with a keyword that together let as many pass; in pairs, as every
    second query is tuned with.
    """
    n_colours, share = _SHARES.get(rate, (1, 10 * rate))
    predicates = []
    for place in range(n_queries):
        with_colour = place % 4 >= 2
        width = max(1, round(n * (share if with_colour else rate)))
        low = int(rng.integers(0, max(1, n - width - VARIANTS)))
        colours = tuple(sorted(rng.choice(_COLOURS, n_colours, replace=False).tolist()))
        keywords = (AnyOf(COLOUR, colours),) if with_colour else ()
        predicates.append(Predicate((IntRange(SHUFFLED, low, low + width),), keywords))
    return predicates


def _around(centres: Int64Array, n: int, rate: float, *, share: float) -> list[Predicate]:
    """A range of ``PLACE`` around each centre moved on by a share of all rows; it stays within the rows."""
    width = max(1, round(n * rate))
    moved = (centres + round(share * n)) % n
    lows = np.clip(moved - width // 2, 0, max(0, n - width - VARIANTS))
    return [Predicate((IntRange(PLACE, low, low + width),)) for low in lows.tolist()]


def _places(items: Float32Array, queries: Float32Array) -> Int64Array:
    """int64 [n + Q]: where each row stands along the chain of clusters, then about where each query would."""
    import faiss

    faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
    means = faiss.Kmeans(items.shape[1], _CLUSTERS, seed=SEED, niter=10)
    means.train(items)
    chain = np.argsort(_chain(np.asarray(means.centroids, np.float32)))
    own, asked = chain[means.index.search(items, 1)[1][:, 0]], chain[means.index.search(queries, 1)[1][:, 0]]
    rng = np.random.default_rng(SEED)
    places = np.empty(len(items), np.int64)
    places[np.lexsort((rng.random(len(items)), own))] = np.arange(len(items))
    starts = np.searchsorted(np.sort(own), np.arange(_CLUSTERS + 1))
    about = rng.integers(starts[asked], np.maximum(starts[asked + 1], starts[asked] + 1))
    return np.concatenate([places, about])


def _chain(centroids: Float32Array) -> Int64Array:
    """Clusters in an order in which neighbours are close: from the first on, always the nearest that is left."""
    left = list(range(1, len(centroids)))
    order = [0]
    while left:
        distances = ((centroids[left] - centroids[order[-1]]) ** 2).sum(axis=1)
        order.append(left.pop(int(distances.argmin())))
    return np.asarray(order)


def _any_skills(keywords: Keywords, lists: Sequence[tuple[str, ...]], rate: float) -> list[Predicate]:
    """For each list some of its skills and then of popular ones, of which about the share of rows has any."""
    frequency = np.bincount(keywords.codes, minlength=len(keywords.values))
    popular = np.argsort(-frequency, kind="stable").tolist()
    return [
        Predicate(keywords=(AnyOf("skill", _skills_for(keywords, frequency, popular, one, rate)),)) for one in lists
    ]


def _skills_for(
    keywords: Keywords, frequency: Int64Array, popular: Sequence[int], own: tuple[str, ...], rate: float
) -> tuple[str, ...]:
    """Greedily, the largest that still fits; if nothing of its own does, of the popular ones."""
    wanted = rate * (len(keywords.starts) - 1)
    ranked = sorted(
        (keywords.code_of[skill] for skill in own if skill in keywords.code_of), key=lambda c: -frequency[c]
    )
    chosen: list[int] = []
    count = 0
    for code in (*ranked, *popular):
        if code not in chosen and count + frequency[code] <= 1.1 * wanted:
            chosen.append(code)
            count += int(frequency[code])
        if count >= 0.9 * wanted:
            break
    return tuple(keywords.values[code] for code in chosen)
