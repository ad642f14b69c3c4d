"""The kernels of ``linr_triton``, for n items of D values and B queries: a program has ``block`` items."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def passes(
    attributes: tl.tensor,
    asked: tl.tensor,
    rows: tl.tensor,
    queries: tl.tensor,
    n: tl.tensor,
    B: tl.constexpr,
    n_clauses: tl.constexpr,
    reverse: tl.constexpr,
) -> tl.tensor:
    """Which rows pass every clause of each query: [queries, rows]."""
    passing = (queries < B)[:, None] & (rows < n)[None, :]
    for clause in tl.static_range(n_clauses):
        own = tl.load(attributes + clause * n + rows, mask=rows < n, other=0)
        wanted = tl.load(asked + clause * B + queries, mask=queries < B, other=0)
        if (reverse >> clause) & 1:
            passing = passing & (own[None, :] != wanted[:, None])
        else:
            passing = passing & (own[None, :] == wanted[:, None])
    return passing


@triton.jit
def mask_scores(
    scores: tl.tensor,
    attributes: tl.tensor,
    asked: tl.tensor,
    n: tl.tensor,
    B: tl.constexpr,
    together: tl.constexpr,
    n_clauses: tl.constexpr,
    reverse: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Write -inf over the scores [B, n] of rows that fail."""
    rows = tl.program_id(0) * block + tl.arange(0, block)
    queries = tl.arange(0, together)
    passing = passes(attributes, asked, rows, queries, n, B, n_clauses, reverse)
    nothing = tl.full((together, block), float("-inf"), scores.dtype.element_ty)
    there = (queries < B)[:, None] & (rows < n)[None, :]
    tl.store(scores + queries.to(tl.int64)[:, None] * n + rows[None, :], nothing, mask=there & (passing == 0))


@triton.jit
def products(
    items: tl.tensor,
    vectors: tl.tensor,
    rows: tl.tensor,
    queries: tl.tensor,
    wanted: tl.tensor,
    B: tl.constexpr,
    D: tl.constexpr,
) -> tl.tensor:
    """Of the rows that are wanted, the others not read: float32 [queries, rows]."""
    values = tl.arange(0, D)
    own = tl.load(items + rows.to(tl.int64)[:, None] * D + values[None, :], mask=wanted[:, None], other=0.0)
    given = tl.load(vectors + queries[:, None] * D + values[None, :], mask=(queries < B)[:, None], other=0.0)
    return tl.dot(given, tl.trans(own))


@triton.jit
def filter_and_score(
    scores: tl.tensor,
    items: tl.tensor,
    vectors: tl.tensor,
    attributes: tl.tensor,
    asked: tl.tensor,
    n: tl.tensor,
    B: tl.constexpr,
    together: tl.constexpr,
    n_clauses: tl.constexpr,
    reverse: tl.constexpr,
    block: tl.constexpr,
    D: tl.constexpr,
) -> None:
    """Scores [B, n], -inf of rows that fail."""
    rows = tl.program_id(0) * block + tl.arange(0, block)
    queries = tl.arange(0, together)
    passing = passes(attributes, asked, rows, queries, n, B, n_clauses, reverse)
    wanted = tl.max(passing.to(tl.int32), axis=0) > 0
    found = tl.where(passing, products(items, vectors, rows, queries, wanted, B, D), float("-inf"))
    there = (queries < B)[:, None] & (rows < n)[None, :]
    at = scores + queries.to(tl.int64)[:, None] * n + rows[None, :]
    tl.store(at, found.to(scores.dtype.element_ty), mask=there)


@triton.jit
def filter_then_score(
    scores: tl.tensor,
    items: tl.tensor,
    vectors: tl.tensor,
    attributes: tl.tensor,
    asked: tl.tensor,
    n: tl.tensor,
    B: tl.constexpr,
    together: tl.constexpr,
    n_clauses: tl.constexpr,
    reverse: tl.constexpr,
    block: tl.constexpr,
    D: tl.constexpr,
) -> None:
    """As ``filter_and_score``, without a product where the whole block fails."""
    rows = tl.program_id(0) * block + tl.arange(0, block)
    queries = tl.arange(0, together)
    passing = passes(attributes, asked, rows, queries, n, B, n_clauses, reverse)
    wanted = tl.max(passing.to(tl.int32), axis=0)
    found = tl.full((together, block), float("-inf"), tl.float32)
    if tl.max(wanted, axis=0) > 0:
        found = tl.where(passing, products(items, vectors, rows, queries, wanted > 0, B, D), float("-inf"))
    there = (queries < B)[:, None] & (rows < n)[None, :]
    at = scores + queries.to(tl.int64)[:, None] * n + rows[None, :]
    tl.store(at, found.to(scores.dtype.element_ty), mask=there)


@triton.jit
def count_matches(
    matches: tl.tensor,
    codes: tl.tensor,
    query_codes: tl.tensor,
    attributes: tl.tensor,
    asked: tl.tensor,
    n: tl.tensor,
    B: tl.constexpr,
    together: tl.constexpr,
    n_clauses: tl.constexpr,
    reverse: tl.constexpr,
    block: tl.constexpr,
    n_words: tl.constexpr,
) -> None:
    """Bits of codes [n, n_words] that are those of the queries' [B, n_words]: int16 [B, n], -1 of rows that fail."""
    rows = tl.program_id(0) * block + tl.arange(0, block)
    queries = tl.arange(0, together)
    passing = passes(attributes, asked, rows, queries, n, B, n_clauses, reverse)
    wanted = tl.max(passing.to(tl.int32), axis=0) > 0
    differing = tl.zeros((together, block), tl.int32)
    for word in tl.static_range(n_words):
        own = tl.load(codes + rows.to(tl.int64) * n_words + word, mask=wanted, other=0)
        given = tl.load(query_codes + queries * n_words + word, mask=queries < B, other=0)
        bits = (own[None, :] ^ given[:, None]).to(tl.uint32, bitcast=True)
        # A count of bits by halves: the instruction has no name that the interpreter knows too.
        bits = bits - ((bits >> 1) & 0x55555555)
        bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
        bits = (bits + (bits >> 4)) & 0x0F0F0F0F
        bits = bits + (bits >> 8)
        bits = (bits + (bits >> 16)) & 0x3F
        differing += bits.to(tl.int32)
    found = tl.where(passing, 32 * n_words - differing, -1)
    there = (queries < B)[:, None] & (rows < n)[None, :]
    at = matches + queries.to(tl.int64)[:, None] * n + rows[None, :]
    tl.store(at, found.to(tl.int16), mask=there)
