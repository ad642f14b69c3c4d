"""Cursors of pages: where a page ended and of which moment it was, sealed so that nobody else can make one."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engine.embeddings import Weights
from engine.errors import CursorLapsed, InvalidArgument
from engine.index.filters import FilterProgram
from engine.index.lexical import NO_TERMS, TermWeights
from engine.pipeline.calls import Query
from engine.pipeline.scoring import SIMILARITY_ALONE, CompiledScoring
from engine.types import Examples, Float32Array, SearchParams

_STATE = struct.Struct("<qqqqqqqqfIIff")
_DIGEST_BYTES = 32
_NO_FACTORS = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Cursor:
    """A moment: ``n_rows`` rows of a ``generation``, of which those were seen that the log of what was shown tells at
    ``position``, as of ``sequence``; ages are counted to ``now``. Where a page ended in it: after the hit of
    ``last_row``, with ``last_score``, which was that of number ``seen``. ``vector`` float32 [d]: what was searched for;
    ``terms``: and what its terms weighed at that moment; ``factors`` float32 [E]: what the parts of named embeddings in
    ``vector`` were multiplied by, None without such.

    Times are microseconds since 1970; the moment is kept until ``expires_at``.
    """

    generation: int
    n_rows: int
    position: int
    sequence: int
    now: int
    expires_at: int
    seen: int
    last_row: int
    last_score: float
    vector: Float32Array
    terms: TermWeights = NO_TERMS
    factors: Float32Array | None = None


class Seal:
    """Makes tokens of cursors, and cursors of its own tokens: it knows none of another seal or of an earlier start."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(_DIGEST_BYTES)

    def close(self, cursor: Cursor, asked: bytes) -> bytes:
        """The token of a cursor for the query that ``fingerprint`` tells."""
        factors = _NO_FACTORS if cursor.factors is None else cursor.factors
        state = _STATE.pack(
            cursor.generation,
            cursor.n_rows,
            cursor.position,
            cursor.sequence,
            cursor.now,
            cursor.expires_at,
            cursor.seen,
            cursor.last_row,
            cursor.last_score,
            len(cursor.terms.numbers),
            len(factors),
            cursor.terms.base,
            cursor.terms.slope,
        )
        numbers = cursor.terms.numbers.astype("<i4").tobytes()
        values = np.concatenate([cursor.terms.weights, factors, cursor.vector]).astype("<f4").tobytes()
        body = asked + state + numbers + values
        return self._digest(body) + body

    def open(self, token: bytes, asked: bytes, field: str, *, now: int) -> Cursor:
        """
        Raises:
            InvalidArgument: it is no token of this seal, or one of another query.
            CursorLapsed: its lease has ended.
        """
        digest, body = token[:_DIGEST_BYTES], token[_DIGEST_BYTES:]
        if not hmac.compare_digest(digest, self._digest(body)):
            raise InvalidArgument(field, "was not given by this collection since the server started, or was changed")
        if body[:_DIGEST_BYTES] != asked:
            raise InvalidArgument(
                field, "is of another query: all but k, legs and facets must be as they were for the first page"
            )
        cursor = _cursor_of(body[_DIGEST_BYTES:])
        if now >= cursor.expires_at:
            raise CursorLapsed(
                f"{field}: its lease ended {(now - cursor.expires_at) / 1e6:.1f} s ago; ask for the first page again"
            )
        return cursor

    def _digest(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")


def _cursor_of(body: bytes) -> Cursor:
    *fields, n_terms, n_factors, base, slope = _STATE.unpack_from(body)
    numbers = np.frombuffer(body, "<i4", n_terms, _STATE.size).astype(np.int64)
    # A copy, which may be written to: kernels would be compiled once more for arrays that may not.
    values = np.frombuffer(body, "<f4", offset=_STATE.size + 4 * n_terms).astype(np.float32)
    weights, factors, vector = np.split(values, [n_terms, n_terms + n_factors])
    terms = TermWeights(numbers, weights, np.float32(base), np.float32(slope))
    fields += (vector, terms, factors if n_factors else None)
    return Cursor(*fields)


def fingerprint(
    query: Query,
    params: SearchParams,
    program: FilterProgram,
    scoring: CompiledScoring | None,
    weights: Weights | None,
) -> bytes:
    """32 bytes, the same for pages of one query alone. ``weights``: of its named embeddings."""
    excluded = params.exclude_ids
    parts: list[object] = [
        _told(query),
        program.fingerprint,
        excluded.tobytes() if isinstance(excluded, np.ndarray) else excluded,
        params.exact,
        params.recall_target,
        params.nprobe,
        params.rescore_depth,
        params.strategy,
        params.min_score,
        params.terms,
        None if weights is None else weights.tolist(),
    ]
    # Pages may differ by whether legs are told, for which there is always a scoring.
    own = SIMILARITY_ALONE if scoring is None else scoring
    parts += [own.similarity, own.lexical, own.is_lexical, own.total.parts, own.overlaps]
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()


def _told(query: Query) -> object:
    if isinstance(query, np.ndarray):
        return query.tobytes()
    if isinstance(query, Mapping):
        return [(name, _told(query[name])) for name in sorted(query)]
    if isinstance(query, Examples):
        return (
            query.like,
            query.unlike,
            *(None if one is None else one.tobytes() for one in (query.like_vectors, query.unlike_vectors)),
        )
    return query
