"""Cursors of pages: where a page ended and of which moment it was, sealed so that nobody else can make one."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass

import numpy as np

from engine.errors import CursorLapsed, InvalidArgument
from engine.index.filters import FilterProgram
from engine.index.lexical import NO_TERMS, TermWeights
from engine.pipeline.scoring import SIMILARITY_ALONE, CompiledScoring
from engine.types import Examples, Float32Array, ItemId, SearchParams

_STATE = struct.Struct("<qqqqqqqqfIff")
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, eq=False)
class Cursor:
    """A moment: ``n_rows`` rows of a ``generation``, of which those were seen that the log of what was shown tells at
    ``position``, as of ``sequence``; ages are counted to ``now``. Where a page ended in it: after the hit of
    ``last_row``, with ``last_score``, which was that of number ``seen``. ``vector`` float32 [d]: what was searched for;
    ``terms``: and what its terms weighed at that moment.

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


class Seal:
    """Makes tokens of cursors, and cursors of its own tokens: it knows none of another seal or of an earlier start."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(_DIGEST_BYTES)

    def close(self, cursor: Cursor, asked: bytes) -> bytes:
        """The token of a cursor for the query that ``fingerprint`` tells."""
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
            cursor.terms.base,
            cursor.terms.slope,
        )
        terms = cursor.terms.numbers.astype("<i4").tobytes() + cursor.terms.weights.astype("<f4").tobytes()
        body = asked + state + terms + cursor.vector.astype("<f4").tobytes()
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
            raise CursorLapsed(f"{field}: its lease ended {(now - cursor.expires_at) / 1e6:.1f} s ago")
        return cursor

    def _digest(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")


def _cursor_of(body: bytes) -> Cursor:
    *fields, n_terms, base, slope = _STATE.unpack_from(body)
    at = _STATE.size
    # Copies, which may be written to: kernels would be compiled once more for arrays that may not.
    numbers = np.frombuffer(body, "<i4", n_terms, at).astype(np.int64)
    weights = np.frombuffer(body, "<f4", n_terms, at + 4 * n_terms).astype(np.float32)
    vector = np.frombuffer(body, "<f4", offset=at + 8 * n_terms).astype(np.float32)
    fields += (vector, TermWeights(numbers, weights, np.float32(base), np.float32(slope)))
    return Cursor(*fields)


def fingerprint(
    query: Float32Array | str | ItemId | Examples,
    params: SearchParams,
    program: FilterProgram,
    scoring: CompiledScoring | None,
) -> bytes:
    """32 bytes, the same for pages of one query alone."""
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
    ]
    # Pages may differ by whether legs are told, for which there is always a scoring.
    own = SIMILARITY_ALONE if scoring is None else scoring
    parts += [own.similarity, own.lexical, own.is_lexical, own.total.parts, own.overlaps]
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()


def _told(query: Float32Array | str | ItemId | Examples) -> object:
    if isinstance(query, np.ndarray):
        return query.tobytes()
    if isinstance(query, Examples):
        return (
            query.like,
            query.unlike,
            *(None if one is None else one.tobytes() for one in (query.like_vectors, query.unlike_vectors)),
        )
    return query
