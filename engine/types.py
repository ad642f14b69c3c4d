"""The nouns of the engine: schema, item, filter, query, hit. Plain values, no behaviour beyond their own shape.

Dimension letters: n rows, d dimension, k hits asked for, B queries in a batch.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.ranking import Pipeline, RankFallback
from engine.scoring import Mode, Scoring, ScoringProfile
from engine.selection import Diversity, Facet, FacetCounts, GroupBy, RankFusion

ItemId: TypeAlias = int | str
"""An int in [0, 2**64) or a string of 1..256 UTF-8 bytes; which of the two is fixed by the schema."""

Metric: TypeAlias = Literal["cosine", "dot", "l2"]
"""Larger is better for all three: l2 scores are minus the squared distance."""

VectorDtype: TypeAlias = Literal["float16", "bfloat16", "float32"]
IdType: TypeAlias = Literal["uint64", "string"]
Combine: TypeAlias = Literal["weighted", "maximum"]
Analyser: TypeAlias = Literal["english", "plain"]
"""How text becomes terms: ``plain`` splits into words in lower case, ``english`` also stems and drops stop words."""

Float32Array: TypeAlias = npt.NDArray[np.float32]
Int32Array: TypeAlias = npt.NDArray[np.int32]
Int64Array: TypeAlias = npt.NDArray[np.int64]
Uint8Array: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class GeoPoint:
    """Degrees: latitude in [-90, 90], longitude in [-180, 180]."""

    lat: float
    lon: float


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """Microseconds since the Unix epoch, UTC; kept apart from int so that the two never compare by accident."""

    micros: int


AttributeValue: TypeAlias = str | tuple[str, ...] | bool | int | float | Timestamp | GeoPoint
"""A value of an attribute; a missing attribute and a null one are the same thing and have no value."""


class AttributeType(enum.Enum):
    KEYWORD = "keyword"
    KEYWORD_LIST = "keyword_list"
    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    TIMESTAMP = "timestamp"
    GEO_POINT = "geo_point"


@dataclass(frozen=True, slots=True)
class AttributeSpec:
    """One typed attribute of a schema.

    ``stored``: returned with hits and by Get. ``filterable``: may stand in a filter. ``volatile``: a counter or score
    (int or float) that changes in place without a new row, and so is not filterable.
    """

    name: str
    type: AttributeType
    stored: bool = True
    filterable: bool = True
    volatile: bool = False


@dataclass(frozen=True, slots=True)
class TextField:
    """One text field of an item, its part in the item's embedding and in the search by terms.

    Fields are encoded in ascending ``order``. ``weight`` is used when the schema's ``text_mode`` is ``weighted``.
    ``analyser``: None where the field is not searched by terms. ``lexical_weight``: a term of this field counts as so
    many.
    """

    name: str
    order: int = 0
    weight: float = 1.0
    analyser: Analyser | None = None
    lexical_weight: float = 1.0


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """One of the named embeddings of a schema's items.

    ``text_fields``: the names of those that the encoder reads for it; empty where callers bring its vectors.
    ``weight``: how much it counts in the similarity of queries that do not say; of a maximum 0 or 1. ``dimension``: the
    encoder's where it has text fields, and in the schema of a collection never None.
    """

    name: str
    text_fields: tuple[str, ...] = ()
    weight: float = 1.0
    dimension: int | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """What a collection holds.

    ``encoder``: ``minilm``, a path to a Sentence-Transformers folder, or None where callers bring the vectors (then
    ``dimension`` is required). ``text_mode``: ``joined`` encodes the fields as one text, ``weighted`` encodes each and
    takes the weighted mean. ``chunk``: at most so many embeddings per item, one per window of the encoder's length;
    an item's score is its best chunk's. ``embeddings``: where items have several by name. ``combine``: an item's
    similarity is the ``weighted`` sum of theirs, for cosine over the sum of the weights that count, or the ``maximum``
    of those that count. ``bm25_k1``: how soon a term's repetitions stop to count; ``bm25_b``: how much long texts are
    held back, in [0, 1]. ``profiles``: scorings by name, ``default_profile`` that of queries which give none; empty:
    similarity alone. ``pipeline``: how candidates are ranked, None where the fused score is all.
    """

    name: str
    id_type: IdType = "string"
    metric: Metric = "cosine"
    dtype: VectorDtype = "float16"
    encoder: str | None = None
    dimension: int | None = None
    text_fields: tuple[TextField, ...] = ()
    text_mode: Literal["joined", "weighted"] = "joined"
    chunk: int = 1
    attributes: tuple[AttributeSpec, ...] = ()
    profiles: tuple[ScoringProfile, ...] = ()
    default_profile: str = ""
    bm25_k1: float = 0.9
    bm25_b: float = 0.4
    pipeline: Pipeline | None = None
    embeddings: tuple[EmbeddingSpec, ...] = ()
    combine: Combine = "weighted"

    @property
    def takes_maximum(self) -> bool:
        """Whether each named embedding is a row of its own."""
        return self.combine == "maximum" and bool(self.embeddings)

    @property
    def rows_per_item(self) -> int:
        """At most."""
        return len(self.embeddings) if self.takes_maximum else self.chunk

    @property
    def analysed_fields(self) -> tuple[TextField, ...]:
        """The text fields that are searched by terms."""
        return tuple(one for one in self.text_fields if one.analyser is not None)

    def attribute(self, name: str) -> AttributeSpec | None:
        """The attribute of that name, or None."""
        return next((spec for spec in self.attributes if spec.name == name), None)


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """An encoder and the index built with it, created and named as one.

    ``encoder_version`` is the fingerprint of the encoder's files and settings, empty without an encoder;
    ``encoder_dtype`` is what it computes in. ``generation``: how often its rows were
    written anew without the dead ones.
    """

    id: str
    encoder_version: str
    dimension: int
    metric: Metric
    dtype: VectorDtype
    created_micros: int
    encoder_dtype: Literal["float32", "bfloat16"] = "float32"
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Times:
    """When an item is found by searches: from the first on and before the second; None: no bound."""

    visible_from: Timestamp | None = None
    expires_at: Timestamp | None = None

    @property
    def are_always(self) -> bool:
        return self.visible_from is None and self.expires_at is None


ALWAYS = Times()


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to be found. ``vector`` (float32 [d] or [chunks, d]) spares the encoder; ``text`` maps text fields.
    ``named_vectors``: where the schema names embeddings, those that the encoder is spared, float32 [d] each.

    ``if_sequence``: it is written only where the stored item has this sequence number; 0: only where there is none.
    ``times``: when searches find it; once it has expired it is deleted before long.
    """

    id: ItemId
    text: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    vector: Float32Array | None = None
    if_sequence: int | None = None
    times: Times = ALWAYS
    named_vectors: Mapping[str, Float32Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ItemUpdate:
    """Attributes of an item that is there: those to set, and names of those to clear; all else stays as it is.

    ``if_sequence``: as an ``Item`` has it. ``times``: those that are not None are set.
    """

    id: ItemId
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    clear: tuple[str, ...] = ()
    if_sequence: int | None = None
    times: Times = ALWAYS


# Filters: a typed tree.


@dataclass(frozen=True, slots=True)
class Match:
    """True where any value of the attribute is in ``any_of``; with ``except_`` where it has a value and none is.

    Values are str, bool or int by the attribute's type; ints compare as int64.
    """

    attribute: str
    any_of: tuple[str | bool | int, ...] = ()
    except_: tuple[str | bool | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Range:
    """True where the value lies within all the bounds given; bounds are int, float or Timestamp by the attribute."""

    attribute: str
    gt: int | float | Timestamp | None = None
    gte: int | float | Timestamp | None = None
    lt: int | float | Timestamp | None = None
    lte: int | float | Timestamp | None = None


@dataclass(frozen=True, slots=True)
class GeoRadius:
    """True where the point lies within ``radius_m`` metres (great circle, haversine on a sphere of 6,371,008.8 m)."""

    attribute: str
    center: GeoPoint
    radius_m: float


@dataclass(frozen=True, slots=True)
class HasId:
    """True for items whose id is among ``ids``."""

    ids: tuple[ItemId, ...]


@dataclass(frozen=True, slots=True)
class IsNull:
    """True where the attribute has no value; an empty list is no value."""

    attribute: str


@dataclass(frozen=True, slots=True)
class Contains:
    """True where the text field has every one of the terms of ``text``, which is analysed as the field is."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Filter:
    """All of ``must``, none of ``must_not``, and at least ``min_should`` of ``should`` (1 unless given, if any).

    An empty filter passes everything.
    """

    must: tuple[Condition, ...] = ()
    should: tuple[Condition, ...] = ()
    must_not: tuple[Condition, ...] = ()
    min_should: int | None = None

    def is_empty(self) -> bool:
        return not (self.must or self.should or self.must_not)


Condition: TypeAlias = Match | Range | GeoRadius | HasId | IsNull | Contains | Filter


class Priority(enum.IntEnum):
    """Smaller goes first. Interactive queries pass before encoding for upserts; bulk comes last."""

    INTERACTIVE = 0
    WRITE = 1
    BULK = 2


class Visibility(enum.IntEnum):
    """What an acknowledged write has reached before the reply."""

    COMMITTED = 1
    """In the log: survives the death of the process."""
    DURABLE = 2
    """Fsynced: survives power loss."""
    SEARCHABLE = 3
    """Durable, and visible to the next search."""


class Strategy(enum.Enum):
    """How a query was answered. NONE where nothing could match."""

    NONE = "none"
    EXACT_SCAN = "exact_scan"
    MASKED_SCAN = "masked_scan"
    GATHER = "gather"
    IVFPQ = "ivfpq"
    FILTERED_IVFPQ = "filtered_ivfpq"
    COARSE_SCAN = "coarse_scan"


@dataclass(frozen=True, slots=True)
class SearchParams:
    """How to answer one query. ``nprobe`` and ``rescore_depth`` override what ``recall_target`` would choose."""

    k: int = 10
    filter: Filter = field(default_factory=Filter)
    exclude_ids: tuple[ItemId, ...] | npt.NDArray[np.uint64] = ()
    exact: bool = False
    recall_target: float | None = None
    nprobe: int | None = None
    rescore_depth: int | None = None
    strategy: Strategy | None = None
    """Asked for by name: an experiment or a benchmark, never needed in production."""
    scoring: Scoring | None = None
    """The collection's default profile unless given."""
    mode: Mode | None = None
    """Which of similarity and terms find items; as the scoring says unless given."""
    terms: str = ""
    """What is searched by terms where the lexical score counts; the query's own text unless given."""
    legs: bool = False
    """Tell what each hit's score is made of."""
    min_score: float | None = None
    """Hits that score less are left out."""
    rank_fusion: RankFusion | None = None
    """Fuse similarity and terms by the places that items have in either, in place of a sum of scores."""
    group_by: GroupBy | None = None
    """At most so many hits of each group."""
    diversity: Diversity | None = None
    """Hits that resemble one another less; of grouped items where there are groups too."""
    page: bool = False
    """Give a cursor for the hits that follow these."""
    cursor: bytes = b""
    """Of the page before: the hits that follow it, of the same moment."""
    facets: tuple[Facet, ...] = ()
    """Values to be counted among all items that pass the filter and are not left out by id, hits or not."""
    rank: bool | None = None
    """Whether the collection's pipeline ranks the hits: where it has one, unless given; never beside diversity."""
    query_features: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Numbers of the query by name, which the pipeline's ranker reads."""
    embedding_weights: Mapping[str, float] = field(default_factory=dict)
    """How much named embeddings count, in place of the schema's weights; one of 0 does not."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """A query made of several examples: items by id and vectors float32 [n, d], at least one of them ``like``.

    It is for the mean of those like what is wanted, and where there are any unlike it, for that mean plus its
    difference from theirs. With cosine every example counts as a vector of length 1, an item by the mean of its
    embeddings. The items themselves are left out.
    """

    like: tuple[ItemId, ...] = ()
    unlike: tuple[ItemId, ...] = ()
    like_vectors: Float32Array | None = None
    unlike_vectors: Float32Array | None = None

    @property
    def ids(self) -> tuple[ItemId, ...]:
        return (*self.like, *self.unlike)

    @property
    def vectors(self) -> list[Float32Array]:
        """Those there are, of either kind."""
        return [one for one in (self.like_vectors, self.unlike_vectors) if one is not None]


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Wall time in seconds that one query spent in each stage (its batch's time, for stages done as a batch)."""

    queue: float = 0.0
    encode: float = 0.0
    filter: float = 0.0
    search: float = 0.0
    fuse: float = 0.0
    rank: float = 0.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was done to answer a query."""

    strategy: Strategy
    index_version: str = ""
    encoder_version: str = ""
    selectivity: float = 1.0
    selectivity_exact: bool = True
    nprobe: int = 0
    lists_scanned: int = 0
    rows_scanned: int = 0
    rescored: int = 0
    expected_recall: float = 1.0
    second_pass: bool = False
    device: str = "cpu"
    score_dtype: str = "float16"
    batch_size: int = 1
    partial: bool = False
    truncated_tokens: int = 0
    sequence: int = 0
    times: StageTimes = field(default_factory=StageTimes)
    expected_recall_provisional: bool = False
    profile: str = ""
    """Scoring profile and revision, as name@revision."""
    group_rounds: int = 0
    """Searches that grouping took; 0 where hits are not grouped."""
    ranked: bool = False
    """Scores are the ranker's."""
    rank_fallback: RankFallback | None = None
    """Why they are not, where the collection has a pipeline."""
    candidates_ranked: int = 0
    ranker_version: str = ""


@dataclass(frozen=True, slots=True)
class LegScore:
    """A leg of a hit's score, to which it adds ``weight * normalised``; ``raw``: NaN where the item has no value."""

    name: str
    raw: float
    normalised: float
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class LegColumn:
    """A leg of all hits of a call, query after query, raw and normalised; ``weights`` float32 [B]: of each query."""

    name: str
    raw: Float32Array
    normalised: Float32Array
    weights: Float32Array


@dataclass(frozen=True, slots=True)
class Hit:
    """One result; ``attributes``, ``text`` and ``vector`` or ``named_vectors`` only where asked for."""

    id: ItemId
    score: float
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    text: Mapping[str, str] = field(default_factory=dict)
    vector: Float32Array | None = None
    legs: Sequence[LegScore] = ()
    named_vectors: Mapping[str, Float32Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NextPage:
    """How to ask for the hits that follow, and until when: ``SearchParams.cursor``."""

    cursor: bytes
    cursor_expires_at: Timestamp


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of one query, best first, how they were found, and the facets asked for, in their order."""

    hits: Sequence[Hit]
    explanation: Explanation
    facets: Sequence[FacetCounts] = ()
    next_page: NextPage | None = None


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item as it was acknowledged."""

    id: ItemId
    sequence: int
    text: Mapping[str, str]
    attributes: Mapping[str, AttributeValue]
    vectors: Float32Array | None = None
    """float32 [chunks, d] as stored, where asked for."""
    times: Times = ALWAYS
    named_vectors: Mapping[str, Float32Array] = field(default_factory=dict)
    """In the place of ``vectors`` where the schema names embeddings: float32 [d] each of those the item has."""
