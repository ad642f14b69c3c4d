"""Inverted lists of 4-bit codes, trained and encoded on the device by torch alone: what the engine has faiss do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.gpu_rows import Made, first_rows
from bench.measured import SEED
from kernels.packed_lists import CENTROIDS, PackedLists

_ROUNDS = 10
_PRODUCTS_BYTES = 1 << 30
_CODED_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class Coding:
    """``centroids``: of lists, float32 [nlist, d]; ``codebook``: of the parts of a residual, float32 [M, 16, d / M]."""

    centroids: Tensor
    codebook: Tensor

    def lists_of(self, rows: Tensor) -> Tensor:
        """The nearest list of each row: int64 [m]."""
        return nearest(rows, self.centroids)

    def codes_of(self, rows: Tensor, lists: Tensor) -> Tensor:
        """As ``PackedLists`` has them, two parts a byte: uint8 [m, M / 2]."""
        residuals = rows - self.centroids[lists]
        parts = [nearest_parts(some, self.codebook) for some in torch.split(residuals, _CODED_AT_ONCE)]
        numbers = torch.cat(parts).to(torch.uint8)
        return numbers[:, 0::2] | numbers[:, 1::2] << 4


def trained(made: Made, *, nlist: int, n_parts: int, sample_rows: int) -> Coding:
    sample = first_rows(made, sample_rows)
    centroids = means(sample, nlist)
    some = sample[: 1 << 16]
    residuals = some - centroids[nearest(some, centroids)]
    return Coding(centroids, codebook_of(residuals, n_parts))


def packed_lists(made: Made, coding: Coding) -> PackedLists:
    """All rows in their lists, as the engine's index has them for a dot product."""
    lists, codes = [], []
    for _, chunk in made.chunks():
        own = coding.lists_of(chunk)
        lists.append(own.cpu().numpy())
        codes.append(coding.codes_of(chunk, own).cpu().numpy())
    made_lists = PackedLists(coding.codebook.cpu().numpy(), coding.centroids.cpu().numpy(), "dot")
    # At once, so that the blocks of a list lie one after another.
    rows, terms = np.arange(made.n_rows), np.zeros(made.n_rows, np.float32)
    made_lists.append(np.concatenate(lists), np.concatenate(codes), rows, terms)
    return made_lists


def nearest(rows: Tensor, centroids: Tensor) -> Tensor:
    """By distance, the first of equals: int64 [m]."""
    halves = (centroids * centroids).sum(dim=1) / 2
    step = max(1, _PRODUCTS_BYTES // (4 * len(centroids)))
    return torch.cat([(some @ centroids.T - halves).argmax(dim=1) for some in torch.split(rows, step)])


def nearest_parts(rows: Tensor, codebook: Tensor) -> Tensor:
    """As ``nearest``, part by part: int64 [m, M]."""
    n_parts, _, width = codebook.shape
    products = torch.einsum("mpw,pcw->mpc", rows.view(len(rows), n_parts, width), codebook)
    return (products - (codebook * codebook).sum(dim=2) / 2).argmax(dim=2)


def means(rows: Tensor, k: int) -> Tensor:
    """The centroids float32 [k, d] of k-means; one that nothing is near stays where it was."""
    generator = torch.Generator(rows.device).manual_seed(SEED)
    centroids = rows[torch.randperm(len(rows), generator=generator, device=rows.device)[:k]].clone()
    for _ in range(_ROUNDS):
        own = nearest(rows, centroids)
        sums = torch.zeros_like(centroids).index_add_(0, own, rows)
        counts = torch.bincount(own, minlength=k)[:, None]
        centroids = torch.where(counts > 0, sums / counts.clamp(min=1), centroids)
    return centroids


def codebook_of(residuals: Tensor, n_parts: int) -> Tensor:
    """Each part's own k-means, all at once: float32 [M, 16, d / M]."""
    n, d = residuals.shape
    parts = residuals.view(n, n_parts, d // n_parts)
    codebook = parts[:CENTROIDS].transpose(0, 1).contiguous()
    numbers = torch.arange(n_parts, device=residuals.device) * CENTROIDS
    for _ in range(_ROUNDS):
        own = torch.cat([nearest_parts(some, codebook) for some in torch.split(residuals, _CODED_AT_ONCE)]) + numbers
        flat = codebook.reshape(-1, d // n_parts)
        sums = torch.zeros_like(flat).index_add_(0, own.reshape(-1), parts.reshape(-1, d // n_parts))
        counts = torch.bincount(own.reshape(-1), minlength=len(flat))[:, None]
        codebook = torch.where(counts > 0, sums / counts.clamp(min=1), flat).view_as(codebook)
    return codebook
