"""The vectors of a call's queries: those given, and those of texts, which pass the encode lane.

Runs on the event loop and computes nothing itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.embeddings import dimension_of, find_embedding
from engine.errors import EngineError, InvalidArgument, LimitExceeded, NoEncoder
from engine.index.version_index import VersionIndex
from engine.lanes.encode import EncodedText, EncodeLane
from engine.limits import Limits
from engine.models.protocol import Encoder
from engine.pipeline.batch import CompiledParams
from engine.pipeline.calls import SearchCall, check_vectors
from engine.types import Float32Array, Priority, Schema, VersionInfo

_NOTHING = np.zeros((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Query vectors float32 [B, d] (zeros where a text failed), or by the names of embeddings, and what encoding told
    of each query. ``forms``: which field of a query says each of those by names.
    """

    vectors: Float32Array = field(default_factory=lambda: _NOTHING)
    errors: Mapping[int, EngineError] = field(default_factory=dict)
    truncated: Sequence[int] = ()
    queue_seconds: float = 0.0
    encode_seconds: float = 0.0
    named: Mapping[str, Float32Array] = field(default_factory=dict)
    forms: Mapping[str, str] = field(default_factory=dict)


class QueryVectors:
    """Those of one version's queries."""

    def __init__(self, index: VersionIndex, encoder: Encoder | None, lane: EncodeLane, limits: Limits) -> None:
        self._index = index
        self._encoder = encoder
        self._lane = lane
        self._limits = limits

    def offered(self, call: SearchCall) -> Collection[str]:
        """See ``offered_embeddings``."""
        return offered_embeddings(call, self._schema)

    async def of(self, call: SearchCall, compiled: Sequence[CompiledParams | None]) -> Encoded:
        """Nothing where neighbours of items are wanted."""
        if call.texts or call.named_texts:
            if all(one is not None and not one.needs_vector for one in compiled):
                return self._unencoded(call)
            return await self._encoded(call, compiled)
        if call.named_vectors:
            return Encoded(named=self._checked(call.named_vectors, compiled))
        if call.vectors is None:
            return Encoded()
        if self._schema.embeddings:
            every = dict.fromkeys((one.name for one in self._schema.embeddings), call.vectors)
            return Encoded(
                named=self._checked(every, compiled, path="query.vector"), forms=dict.fromkeys(every, "vector")
            )
        check_vectors(call.vectors, self._version)
        return Encoded(call.vectors)

    async def encode(
        self,
        texts: Sequence[str],
        *,
        fields: Sequence[str],
        priority: Priority,
        deadline: float | None,
        max_queue_delay: float | None = None,
    ) -> list[EncodedText | EngineError]:
        """One outcome for each text; vectors float32 [1, d] as the query side encodes them. Empty and oversized texts
        fail alone, before they cost anything. ``fields``: what messages call each text.
        """
        if self._encoder is None:
            raise NoEncoder(f"collection {self._schema.name!r} has no encoder: search it with vectors or item ids")
        outcomes: list[EncodedText | EngineError | None] = [
            self._text_error(name, text) for name, text in zip(fields, texts, strict=True)
        ]
        sound = [place for place, outcome in enumerate(outcomes) if outcome is None]
        encoded = await self._lane.encode(
            self._encoder,
            [texts[place] for place in sound],
            role="query",
            priority=priority,
            deadline=deadline,
            max_queue_delay=max_queue_delay,
        )
        for place, one in zip(sound, encoded, strict=True):
            outcomes[place] = one
        return [one for one in outcomes if one is not None]

    @property
    def _schema(self) -> Schema:
        return self._index.schema

    @property
    def _version(self) -> VersionInfo:
        return self._index.version

    def _counts(self, name: str, one: CompiledParams | None) -> bool:
        """Whether an embedding counts in a query; where none has a name, all do."""
        if not name:
            return True
        column = [own.name for own in self._schema.embeddings].index(name)
        return one is not None and one.weights is not None and bool(one.weights[column])

    def _checked(
        self, named: Mapping[str, Float32Array], compiled: Sequence[CompiledParams | None], *, path: str = ""
    ) -> dict[str, Float32Array]:
        """Those that count in any query. ``path``: of the vectors, where all embeddings have the same."""
        counting = {name: own for name, own in named.items() if any(self._counts(name, one) for one in compiled)}
        for name, vectors in counting.items():
            field, given = path or f"query.named.vectors[{name}]", vectors.shape[1]
            wanted = dimension_of(find_embedding(name, self._schema, field))
            if given != wanted:
                told = f"has {given} dimensions, the embedding {name!r} has {wanted}"
                raise InvalidArgument(field, told, value=given, limit=wanted)
        # Where every query's parameters are wrong nothing counts, and one is as good as another.
        return counting or dict(named)

    def _unencoded(self, call: SearchCall) -> Encoded:
        """Vectors for queries in whose scores similarity does not count."""
        errors = {
            place: error
            for place, text in enumerate(call.texts)
            if (error := self._text_error(f"{call.query_field(place)}.text", text)) is not None
        }
        return Encoded(np.ones((call.n_queries, self._version.dimension), np.float32), errors)

    async def _encoded(self, call: SearchCall, compiled: Sequence[CompiledParams | None]) -> Encoded:
        """A query that was given is encoded once, however many objectives it has: texts are known by its number."""
        texts, each_has = self._texts(call), call.n_objectives
        wanted: dict[tuple[int, str], str] = {}
        forms = {name: f"named.texts[{name}]" if call.named_texts else "text" for name in texts}
        for name, each in texts.items():
            for place, text in enumerate(each):
                if self._counts(name, compiled[place % len(compiled)]):
                    wanted.setdefault((place // each_has, text), f"{call.query_field(place)}.{forms[name]}")
        outcomes = await self.encode(
            [text for _, text in wanted],
            fields=list(wanted.values()),
            priority=call.priority,
            deadline=call.deadline,
            max_queue_delay=call.max_queue_delay,
        )
        found = dict(zip(wanted, outcomes, strict=True))
        good = [one for one in outcomes if isinstance(one, EncodedText)]
        truncated = [0] * (call.n_queries // each_has)
        for (number, _), one in found.items():
            truncated[number] += one.truncated_tokens if isinstance(one, EncodedText) else 0
        failed = {number: one for (number, _), one in found.items() if isinstance(one, EngineError)}
        vectors = {name: self._columns(each, found, each_has) for name, each in texts.items()}
        places = range(call.n_queries)
        return Encoded(
            vectors.pop("", _NOTHING),
            {place: failed[place // each_has] for place in places if place // each_has in failed} if failed else {},
            [truncated[place // each_has] for place in places],
            max((one.queue_seconds for one in good), default=0.0),
            max((one.encode_seconds for one in good), default=0.0),
            {**vectors, **self._checked(call.named_vectors, compiled)},
            forms,
        )

    def _texts(self, call: SearchCall) -> Mapping[str, Sequence[str]]:
        """The texts of the queries by the embeddings they are for, by the empty name where none has one."""
        if self._encoder is not None:
            for name in call.named_texts:
                path = f"query.named.texts[{name}]"
                own, wanted = dimension_of(find_embedding(name, self._schema, path)), self._encoder.dimension
                if own != wanted:
                    raise InvalidArgument(path, f"has {own} dimensions, the encoder {wanted}: give a vector")
        if call.named_texts:
            return call.named_texts
        if not self._schema.embeddings:
            return {"": call.texts}
        if self._encoder is not None and not _reading(self._schema):
            raise InvalidArgument("query.text", "no embedding of the collection reads text: give vectors by name")
        return dict.fromkeys(_reading(self._schema) or [""], call.texts)

    def _columns(
        self, texts: Sequence[str], found: Mapping[tuple[int, str], EncodedText | EngineError], each_has: int
    ) -> Float32Array:
        """float32 [B, d]: zeros for a text that failed or was not encoded. ``each_has``: objectives of a query."""
        assert self._encoder is not None
        vectors = np.zeros((len(texts), self._encoder.dimension), np.float32)
        for place, text in enumerate(texts):
            one = found.get((place // each_has, text))
            if isinstance(one, EncodedText):
                vectors[place] = one.vectors[0]
        return vectors

    def _text_error(self, field: str, text: str) -> EngineError | None:
        if not text.strip():
            return InvalidArgument(field, "is empty")
        size = len(text.encode())
        if size > self._limits.text_bytes:
            return LimitExceeded(field, value=size, limit=self._limits.text_bytes, unit="bytes")
        return None


def offered_embeddings(call: SearchCall, schema: Schema) -> Collection[str]:
    """The embeddings for which a call's queries have a text or a vector.

    Raises:
        InvalidArgument: one that the schema lacks, or with both, or of fewer queries than another.
    """
    if schema.takes_maximum and (call.named_texts or call.named_vectors):
        raise InvalidArgument("query.named", "is for weighted sums: one text or vector is compared with a maximum")
    if not call.named_texts and not call.named_vectors:
        reading = _reading(schema) if call.texts else []
        return reading or [one.name for one in schema.embeddings]
    for kind, given in (("texts", call.named_texts), ("vectors", call.named_vectors)):
        for name, each in given.items():
            path = f"query.named.{kind}[{name}]"
            find_embedding(name, schema, path)
            if len(each) != call.n_queries:
                own, other = len(each) // call.n_objectives, call.n_queries // call.n_objectives
                raise InvalidArgument(path, f"has {own} queries where another has {other}")
            if name in call.named_texts and name in call.named_vectors:
                raise InvalidArgument(path, "has a text and a vector: give one of the two")
    return {*call.named_texts, *call.named_vectors}


def _reading(schema: Schema) -> list[str]:
    """Embeddings that read text."""
    return [one.name for one in schema.embeddings if one.text_fields]
