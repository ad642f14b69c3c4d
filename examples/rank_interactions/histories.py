"""Histories of users and tags of items as the data set has them, and item embeddings from co-occurrence."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

HELD_OUT = 3
"""Last items of a user: to train the ranker with, to choose by, and to report."""
_WINDOW = 5
_RECENT = 10
_DECAY = 0.7


@dataclass(frozen=True, slots=True)
class Histories:
    """Item ids of each user in time order, at least ``HELD_OUT`` + 2; tags by item, as keywords."""

    users: list[list[int]]
    tags: dict[int, tuple[str, ...]]

    @property
    def items(self) -> list[int]:
        return sorted({item for user in self.users for item in user})

    def known(self) -> list[list[int]]:
        """Without what is held out."""
        return [user[:-HELD_OUT] for user in self.users]


def read_histories(folder: Path, name: str, *, users: int | None = None) -> Histories:
    """
    Raises:
        OSError: a file is not there.
    """
    with gzip.open(folder / f"{name}.txt.gz", "rt") as lines:
        read = [[int(one) for one in line.split()[1:]] for line in lines]
    with gzip.open(folder / f"{name}_item2attributes.json.gz", "rt") as file:
        tags = {int(item): tuple(f"t{tag}" for tag in own) for item, own in json.load(file).items()}
    return Histories([user for user in read if len(user) >= HELD_OUT + 2][:users], tags)


def popularity(histories: Histories) -> Counter[int]:
    """How often each item is in what is not held out."""
    return Counter(item for user in histories.known() for item in user)


def embeddings(histories: Histories, *, dimension: int, seed: int) -> dict[int, npt.NDArray[np.float32]]:
    """float32 [dimension] of length 1 for each item: the positive pointwise mutual information of items that stand
    near one another, factored. Zeros for items that are only held out.
    """
    items = histories.items
    place = {item: n for n, item in enumerate(items)}
    pairs: Counter[tuple[int, int]] = Counter()
    for user in histories.known():
        for at, item in enumerate(user):
            for other in user[at + 1 : at + 1 + _WINDOW]:
                pairs[place[item], place[other]] += 1
                pairs[place[other], place[item]] += 1
    places = np.array(list(pairs), np.int64).reshape(-1, 2)
    counts = np.array(list(pairs.values()), np.float64)
    totals = np.maximum(np.bincount(places[:, 0], counts, len(items)), 1)
    information = np.log(
        counts * counts.sum() / (totals[places[:, 0]] * totals[places[:, 1]] ** 0.75 * totals.sum() ** 0.25)
    )
    values = torch.tensor(np.maximum(information, 0), dtype=torch.float32)
    matrix = torch.sparse_coo_tensor(torch.tensor(places.T), values, (len(items), len(items)), check_invariants=True)
    torch.manual_seed(seed)
    left, sizes, _ = torch.svd_lowrank(matrix.coalesce(), q=dimension, niter=4)
    vectors = (left * sizes.sqrt()).numpy()
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.where(lengths > 1e-6, vectors / np.maximum(lengths, 1e-6), 0).astype(np.float32)
    return dict(zip(items, vectors, strict=True))


def query_vector(history: list[int], vectors: dict[int, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """The mean of a history's last items, later ones counting more."""
    recent = history[-_RECENT:][::-1]
    summed = sum(_DECAY**age * vectors[item] for age, item in enumerate(recent))
    vector = np.asarray(summed, np.float32)
    return vector / max(float(np.linalg.norm(vector)), 1e-6)
