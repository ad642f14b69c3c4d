import datetime

from engine.v1 import common_pb2 as _common_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BULK: _ClassVar[Priority]

class Strategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STRATEGY_UNSPECIFIED: _ClassVar[Strategy]
    STRATEGY_NONE: _ClassVar[Strategy]
    STRATEGY_EXACT_SCAN: _ClassVar[Strategy]
    STRATEGY_MASKED_SCAN: _ClassVar[Strategy]
    STRATEGY_GATHER: _ClassVar[Strategy]
    STRATEGY_IVFPQ: _ClassVar[Strategy]
    STRATEGY_FILTERED_IVFPQ: _ClassVar[Strategy]
    STRATEGY_COARSE_SCAN: _ClassVar[Strategy]

class RetrievalMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RETRIEVAL_MODE_UNSPECIFIED: _ClassVar[RetrievalMode]
    RETRIEVAL_MODE_DENSE: _ClassVar[RetrievalMode]
    RETRIEVAL_MODE_LEXICAL: _ClassVar[RetrievalMode]
    RETRIEVAL_MODE_HYBRID: _ClassVar[RetrievalMode]

class RankMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RANK_MODE_UNSPECIFIED: _ClassVar[RankMode]
    RANK_MODE_OFF: _ClassVar[RankMode]
    RANK_MODE_ON: _ClassVar[RankMode]

class RankFallback(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RANK_FALLBACK_UNSPECIFIED: _ClassVar[RankFallback]
    RANK_FALLBACK_OFF: _ClassVar[RankFallback]
    RANK_FALLBACK_LATE: _ClassVar[RankFallback]
    RANK_FALLBACK_FAILED: _ClassVar[RankFallback]
    RANK_FALLBACK_TOO_MANY: _ClassVar[RankFallback]
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BULK: Priority
STRATEGY_UNSPECIFIED: Strategy
STRATEGY_NONE: Strategy
STRATEGY_EXACT_SCAN: Strategy
STRATEGY_MASKED_SCAN: Strategy
STRATEGY_GATHER: Strategy
STRATEGY_IVFPQ: Strategy
STRATEGY_FILTERED_IVFPQ: Strategy
STRATEGY_COARSE_SCAN: Strategy
RETRIEVAL_MODE_UNSPECIFIED: RetrievalMode
RETRIEVAL_MODE_DENSE: RetrievalMode
RETRIEVAL_MODE_LEXICAL: RetrievalMode
RETRIEVAL_MODE_HYBRID: RetrievalMode
RANK_MODE_UNSPECIFIED: RankMode
RANK_MODE_OFF: RankMode
RANK_MODE_ON: RankMode
RANK_FALLBACK_UNSPECIFIED: RankFallback
RANK_FALLBACK_OFF: RankFallback
RANK_FALLBACK_LATE: RankFallback
RANK_FALLBACK_FAILED: RankFallback
RANK_FALLBACK_TOO_MANY: RankFallback

class Floats(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class SearchParams(_message.Message):
    __slots__ = ("k", "filter", "exclude_ids", "exclude_list", "exact", "recall_target", "nprobe", "rescore_depth", "strategy", "scoring", "legs", "min_score", "terms", "mode", "group_by", "diversity", "facets", "embedding_weights", "rank", "query_features", "rank_fusion", "page", "cursor")
    class EmbeddingWeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class QueryFeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Floats
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Floats, _Mapping]] = ...) -> None: ...
    K_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_IDS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_LIST_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    RECALL_TARGET_FIELD_NUMBER: _ClassVar[int]
    NPROBE_FIELD_NUMBER: _ClassVar[int]
    RESCORE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    SCORING_FIELD_NUMBER: _ClassVar[int]
    LEGS_FIELD_NUMBER: _ClassVar[int]
    MIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    FACETS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    QUERY_FEATURES_FIELD_NUMBER: _ClassVar[int]
    RANK_FUSION_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    k: int
    filter: _common_pb2.Filter
    exclude_ids: _common_pb2.ItemIds
    exclude_list: str
    exact: bool
    recall_target: float
    nprobe: int
    rescore_depth: int
    strategy: Strategy
    scoring: _common_pb2.Scoring
    legs: bool
    min_score: float
    terms: str
    mode: RetrievalMode
    group_by: GroupBy
    diversity: Diversity
    facets: _containers.RepeatedCompositeFieldContainer[Facet]
    embedding_weights: _containers.ScalarMap[str, float]
    rank: RankMode
    query_features: _containers.MessageMap[str, Floats]
    rank_fusion: RankFusion
    page: bool
    cursor: bytes
    def __init__(self, k: _Optional[int] = ..., filter: _Optional[_Union[_common_pb2.Filter, _Mapping]] = ..., exclude_ids: _Optional[_Union[_common_pb2.ItemIds, _Mapping]] = ..., exclude_list: _Optional[str] = ..., exact: bool = ..., recall_target: _Optional[float] = ..., nprobe: _Optional[int] = ..., rescore_depth: _Optional[int] = ..., strategy: _Optional[_Union[Strategy, str]] = ..., scoring: _Optional[_Union[_common_pb2.Scoring, _Mapping]] = ..., legs: bool = ..., min_score: _Optional[float] = ..., terms: _Optional[str] = ..., mode: _Optional[_Union[RetrievalMode, str]] = ..., group_by: _Optional[_Union[GroupBy, _Mapping]] = ..., diversity: _Optional[_Union[Diversity, _Mapping]] = ..., facets: _Optional[_Iterable[_Union[Facet, _Mapping]]] = ..., embedding_weights: _Optional[_Mapping[str, float]] = ..., rank: _Optional[_Union[RankMode, str]] = ..., query_features: _Optional[_Mapping[str, Floats]] = ..., rank_fusion: _Optional[_Union[RankFusion, _Mapping]] = ..., page: bool = ..., cursor: _Optional[bytes] = ...) -> None: ...

class NextPage(_message.Message):
    __slots__ = ("cursor", "cursor_expires_at")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    CURSOR_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    cursor: bytes
    cursor_expires_at: _timestamp_pb2.Timestamp
    def __init__(self, cursor: _Optional[bytes] = ..., cursor_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RankFusion(_message.Message):
    __slots__ = ("constant", "depth", "dense", "lexical")
    CONSTANT_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    DENSE_FIELD_NUMBER: _ClassVar[int]
    LEXICAL_FIELD_NUMBER: _ClassVar[int]
    constant: float
    depth: int
    dense: float
    lexical: float
    def __init__(self, constant: _Optional[float] = ..., depth: _Optional[int] = ..., dense: _Optional[float] = ..., lexical: _Optional[float] = ...) -> None: ...

class Facet(_message.Message):
    __slots__ = ("attribute", "limit")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    limit: int
    def __init__(self, attribute: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class FacetCounts(_message.Message):
    __slots__ = ("attribute", "counts")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    counts: _containers.RepeatedCompositeFieldContainer[ValueCount]
    def __init__(self, attribute: _Optional[str] = ..., counts: _Optional[_Iterable[_Union[ValueCount, _Mapping]]] = ...) -> None: ...

class ValueCount(_message.Message):
    __slots__ = ("value", "count")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    value: _common_pb2.Value
    count: int
    def __init__(self, value: _Optional[_Union[_common_pb2.Value, _Mapping]] = ..., count: _Optional[int] = ...) -> None: ...

class Diversity(_message.Message):
    __slots__ = ("relevance", "candidates")
    RELEVANCE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    relevance: float
    candidates: int
    def __init__(self, relevance: _Optional[float] = ..., candidates: _Optional[int] = ...) -> None: ...

class GroupBy(_message.Message):
    __slots__ = ("attribute", "per_group")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    PER_GROUP_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    per_group: int
    def __init__(self, attribute: _Optional[str] = ..., per_group: _Optional[int] = ...) -> None: ...

class NamedQuery(_message.Message):
    __slots__ = ("texts", "vectors")
    class TextsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class VectorsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _common_pb2.Vector
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_common_pb2.Vector, _Mapping]] = ...) -> None: ...
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.ScalarMap[str, str]
    vectors: _containers.MessageMap[str, _common_pb2.Vector]
    def __init__(self, texts: _Optional[_Mapping[str, str]] = ..., vectors: _Optional[_Mapping[str, _common_pb2.Vector]] = ...) -> None: ...

class NamedQueries(_message.Message):
    __slots__ = ("texts", "vectors")
    class TextsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Texts
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Texts, _Mapping]] = ...) -> None: ...
    class VectorsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _common_pb2.Tensor
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_common_pb2.Tensor, _Mapping]] = ...) -> None: ...
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.MessageMap[str, Texts]
    vectors: _containers.MessageMap[str, _common_pb2.Tensor]
    def __init__(self, texts: _Optional[_Mapping[str, Texts]] = ..., vectors: _Optional[_Mapping[str, _common_pb2.Tensor]] = ...) -> None: ...

class Query(_message.Message):
    __slots__ = ("vector", "text", "item_id", "examples", "named")
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    NAMED_FIELD_NUMBER: _ClassVar[int]
    vector: _common_pb2.Vector
    text: str
    item_id: _common_pb2.ItemId
    examples: Examples
    named: NamedQuery
    def __init__(self, vector: _Optional[_Union[_common_pb2.Vector, _Mapping]] = ..., text: _Optional[str] = ..., item_id: _Optional[_Union[_common_pb2.ItemId, _Mapping]] = ..., examples: _Optional[_Union[Examples, _Mapping]] = ..., named: _Optional[_Union[NamedQuery, _Mapping]] = ...) -> None: ...

class Examples(_message.Message):
    __slots__ = ("like", "unlike", "like_vectors", "unlike_vectors")
    LIKE_FIELD_NUMBER: _ClassVar[int]
    UNLIKE_FIELD_NUMBER: _ClassVar[int]
    LIKE_VECTORS_FIELD_NUMBER: _ClassVar[int]
    UNLIKE_VECTORS_FIELD_NUMBER: _ClassVar[int]
    like: _common_pb2.ItemIds
    unlike: _common_pb2.ItemIds
    like_vectors: _common_pb2.Tensor
    unlike_vectors: _common_pb2.Tensor
    def __init__(self, like: _Optional[_Union[_common_pb2.ItemIds, _Mapping]] = ..., unlike: _Optional[_Union[_common_pb2.ItemIds, _Mapping]] = ..., like_vectors: _Optional[_Union[_common_pb2.Tensor, _Mapping]] = ..., unlike_vectors: _Optional[_Union[_common_pb2.Tensor, _Mapping]] = ...) -> None: ...

class ExampleQueries(_message.Message):
    __slots__ = ("queries",)
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    queries: _containers.RepeatedCompositeFieldContainer[Examples]
    def __init__(self, queries: _Optional[_Iterable[_Union[Examples, _Mapping]]] = ...) -> None: ...

class ReturnFields(_message.Message):
    __slots__ = ("attributes", "text_fields", "vectors")
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELDS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    attributes: _containers.RepeatedScalarFieldContainer[str]
    text_fields: _containers.RepeatedScalarFieldContainer[str]
    vectors: bool
    def __init__(self, attributes: _Optional[_Iterable[str]] = ..., text_fields: _Optional[_Iterable[str]] = ..., vectors: bool = ...) -> None: ...

class SearchRequest(_message.Message):
    __slots__ = ("collection", "version", "query", "params", "return_fields", "min_sequence", "priority", "max_queue_delay")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    RETURN_FIELDS_FIELD_NUMBER: _ClassVar[int]
    MIN_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUE_DELAY_FIELD_NUMBER: _ClassVar[int]
    collection: str
    version: str
    query: Query
    params: SearchParams
    return_fields: ReturnFields
    min_sequence: int
    priority: Priority
    max_queue_delay: _duration_pb2.Duration
    def __init__(self, collection: _Optional[str] = ..., version: _Optional[str] = ..., query: _Optional[_Union[Query, _Mapping]] = ..., params: _Optional[_Union[SearchParams, _Mapping]] = ..., return_fields: _Optional[_Union[ReturnFields, _Mapping]] = ..., min_sequence: _Optional[int] = ..., priority: _Optional[_Union[Priority, str]] = ..., max_queue_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class LegScore(_message.Message):
    __slots__ = ("name", "raw", "normalised", "weight")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    NORMALISED_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    name: str
    raw: float
    normalised: float
    weight: float
    def __init__(self, name: _Optional[str] = ..., raw: _Optional[float] = ..., normalised: _Optional[float] = ..., weight: _Optional[float] = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("id", "score", "attributes", "text", "vectors", "legs", "named_vectors")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _common_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_common_pb2.Value, _Mapping]] = ...) -> None: ...
    class TextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class NamedVectorsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _common_pb2.Tensor
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_common_pb2.Tensor, _Mapping]] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    LEGS_FIELD_NUMBER: _ClassVar[int]
    NAMED_VECTORS_FIELD_NUMBER: _ClassVar[int]
    id: _common_pb2.ItemId
    score: float
    attributes: _containers.MessageMap[str, _common_pb2.Value]
    text: _containers.ScalarMap[str, str]
    vectors: _common_pb2.Tensor
    legs: _containers.RepeatedCompositeFieldContainer[LegScore]
    named_vectors: _containers.MessageMap[str, _common_pb2.Tensor]
    def __init__(self, id: _Optional[_Union[_common_pb2.ItemId, _Mapping]] = ..., score: _Optional[float] = ..., attributes: _Optional[_Mapping[str, _common_pb2.Value]] = ..., text: _Optional[_Mapping[str, str]] = ..., vectors: _Optional[_Union[_common_pb2.Tensor, _Mapping]] = ..., legs: _Optional[_Iterable[_Union[LegScore, _Mapping]]] = ..., named_vectors: _Optional[_Mapping[str, _common_pb2.Tensor]] = ...) -> None: ...

class StageTimes(_message.Message):
    __slots__ = ("queue", "encode", "filter", "search", "fuse", "rank")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    FUSE_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    queue: _duration_pb2.Duration
    encode: _duration_pb2.Duration
    filter: _duration_pb2.Duration
    search: _duration_pb2.Duration
    fuse: _duration_pb2.Duration
    rank: _duration_pb2.Duration
    def __init__(self, queue: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., encode: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., filter: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., search: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., fuse: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., rank: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("strategy", "index_version", "encoder_version", "selectivity", "selectivity_exact", "nprobe", "lists_scanned", "rows_scanned", "rescored", "expected_recall", "second_pass", "device", "score_dtype", "batch_size", "partial", "truncated_tokens", "sequence", "times", "expected_recall_provisional", "profile", "group_rounds", "ranked", "rank_fallback", "candidates_ranked", "ranker_version")
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    INDEX_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENCODER_VERSION_FIELD_NUMBER: _ClassVar[int]
    SELECTIVITY_FIELD_NUMBER: _ClassVar[int]
    SELECTIVITY_EXACT_FIELD_NUMBER: _ClassVar[int]
    NPROBE_FIELD_NUMBER: _ClassVar[int]
    LISTS_SCANNED_FIELD_NUMBER: _ClassVar[int]
    ROWS_SCANNED_FIELD_NUMBER: _ClassVar[int]
    RESCORED_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_RECALL_FIELD_NUMBER: _ClassVar[int]
    SECOND_PASS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SCORE_DTYPE_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_RECALL_PROVISIONAL_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    GROUP_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    RANKED_FIELD_NUMBER: _ClassVar[int]
    RANK_FALLBACK_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_RANKED_FIELD_NUMBER: _ClassVar[int]
    RANKER_VERSION_FIELD_NUMBER: _ClassVar[int]
    strategy: Strategy
    index_version: str
    encoder_version: str
    selectivity: float
    selectivity_exact: bool
    nprobe: int
    lists_scanned: int
    rows_scanned: int
    rescored: int
    expected_recall: float
    second_pass: bool
    device: str
    score_dtype: _common_pb2.Dtype
    batch_size: int
    partial: bool
    truncated_tokens: int
    sequence: int
    times: StageTimes
    expected_recall_provisional: bool
    profile: str
    group_rounds: int
    ranked: bool
    rank_fallback: RankFallback
    candidates_ranked: int
    ranker_version: str
    def __init__(self, strategy: _Optional[_Union[Strategy, str]] = ..., index_version: _Optional[str] = ..., encoder_version: _Optional[str] = ..., selectivity: _Optional[float] = ..., selectivity_exact: bool = ..., nprobe: _Optional[int] = ..., lists_scanned: _Optional[int] = ..., rows_scanned: _Optional[int] = ..., rescored: _Optional[int] = ..., expected_recall: _Optional[float] = ..., second_pass: bool = ..., device: _Optional[str] = ..., score_dtype: _Optional[_Union[_common_pb2.Dtype, str]] = ..., batch_size: _Optional[int] = ..., partial: bool = ..., truncated_tokens: _Optional[int] = ..., sequence: _Optional[int] = ..., times: _Optional[_Union[StageTimes, _Mapping]] = ..., expected_recall_provisional: bool = ..., profile: _Optional[str] = ..., group_rounds: _Optional[int] = ..., ranked: bool = ..., rank_fallback: _Optional[_Union[RankFallback, str]] = ..., candidates_ranked: _Optional[int] = ..., ranker_version: _Optional[str] = ...) -> None: ...

class SearchResponse(_message.Message):
    __slots__ = ("hits", "explanation", "facets", "next_page")
    HITS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    FACETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[Hit]
    explanation: Explanation
    facets: _containers.RepeatedCompositeFieldContainer[FacetCounts]
    next_page: NextPage
    def __init__(self, hits: _Optional[_Iterable[_Union[Hit, _Mapping]]] = ..., explanation: _Optional[_Union[Explanation, _Mapping]] = ..., facets: _Optional[_Iterable[_Union[FacetCounts, _Mapping]]] = ..., next_page: _Optional[_Union[NextPage, _Mapping]] = ...) -> None: ...

class Texts(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class SearchBatchRequest(_message.Message):
    __slots__ = ("collection", "version", "vectors", "texts", "item_ids", "examples", "named", "params", "min_sequence", "priority", "max_queue_delay", "explain", "objectives")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    NAMED_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    MIN_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUE_DELAY_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVES_FIELD_NUMBER: _ClassVar[int]
    collection: str
    version: str
    vectors: _common_pb2.Tensor
    texts: Texts
    item_ids: _common_pb2.ItemIds
    examples: ExampleQueries
    named: NamedQueries
    params: _containers.RepeatedCompositeFieldContainer[SearchParams]
    min_sequence: int
    priority: Priority
    max_queue_delay: _duration_pb2.Duration
    explain: bool
    objectives: _containers.RepeatedCompositeFieldContainer[_common_pb2.Scoring]
    def __init__(self, collection: _Optional[str] = ..., version: _Optional[str] = ..., vectors: _Optional[_Union[_common_pb2.Tensor, _Mapping]] = ..., texts: _Optional[_Union[Texts, _Mapping]] = ..., item_ids: _Optional[_Union[_common_pb2.ItemIds, _Mapping]] = ..., examples: _Optional[_Union[ExampleQueries, _Mapping]] = ..., named: _Optional[_Union[NamedQueries, _Mapping]] = ..., params: _Optional[_Iterable[_Union[SearchParams, _Mapping]]] = ..., min_sequence: _Optional[int] = ..., priority: _Optional[_Union[Priority, str]] = ..., max_queue_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., explain: bool = ..., objectives: _Optional[_Iterable[_Union[_common_pb2.Scoring, _Mapping]]] = ...) -> None: ...

class SearchBatchResponse(_message.Message):
    __slots__ = ("counts", "ids", "scores", "statuses", "explanations", "legs", "index_version", "encoder_version", "sequence", "facets", "ranker_version", "rank_fallbacks", "next_pages")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    LEGS_FIELD_NUMBER: _ClassVar[int]
    INDEX_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENCODER_VERSION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FACETS_FIELD_NUMBER: _ClassVar[int]
    RANKER_VERSION_FIELD_NUMBER: _ClassVar[int]
    RANK_FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGES_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    ids: _common_pb2.ItemIds
    scores: bytes
    statuses: _containers.RepeatedCompositeFieldContainer[_status_pb2.Status]
    explanations: _containers.RepeatedCompositeFieldContainer[Explanation]
    legs: _containers.RepeatedCompositeFieldContainer[LegColumn]
    index_version: str
    encoder_version: str
    sequence: int
    facets: _containers.RepeatedCompositeFieldContainer[QueryFacets]
    ranker_version: str
    rank_fallbacks: _containers.RepeatedScalarFieldContainer[RankFallback]
    next_pages: _containers.RepeatedCompositeFieldContainer[NextPage]
    def __init__(self, counts: _Optional[_Iterable[int]] = ..., ids: _Optional[_Union[_common_pb2.ItemIds, _Mapping]] = ..., scores: _Optional[bytes] = ..., statuses: _Optional[_Iterable[_Union[_status_pb2.Status, _Mapping]]] = ..., explanations: _Optional[_Iterable[_Union[Explanation, _Mapping]]] = ..., legs: _Optional[_Iterable[_Union[LegColumn, _Mapping]]] = ..., index_version: _Optional[str] = ..., encoder_version: _Optional[str] = ..., sequence: _Optional[int] = ..., facets: _Optional[_Iterable[_Union[QueryFacets, _Mapping]]] = ..., ranker_version: _Optional[str] = ..., rank_fallbacks: _Optional[_Iterable[_Union[RankFallback, str]]] = ..., next_pages: _Optional[_Iterable[_Union[NextPage, _Mapping]]] = ...) -> None: ...

class QueryFacets(_message.Message):
    __slots__ = ("facets",)
    FACETS_FIELD_NUMBER: _ClassVar[int]
    facets: _containers.RepeatedCompositeFieldContainer[FacetCounts]
    def __init__(self, facets: _Optional[_Iterable[_Union[FacetCounts, _Mapping]]] = ...) -> None: ...

class LegColumn(_message.Message):
    __slots__ = ("name", "raw", "normalised", "weights")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    NORMALISED_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    raw: bytes
    normalised: bytes
    weights: bytes
    def __init__(self, name: _Optional[str] = ..., raw: _Optional[bytes] = ..., normalised: _Optional[bytes] = ..., weights: _Optional[bytes] = ...) -> None: ...

class SearchStreamRequest(_message.Message):
    __slots__ = ("tag", "batch")
    TAG_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    tag: int
    batch: SearchBatchRequest
    def __init__(self, tag: _Optional[int] = ..., batch: _Optional[_Union[SearchBatchRequest, _Mapping]] = ...) -> None: ...

class SearchStreamResponse(_message.Message):
    __slots__ = ("tag", "status", "batch")
    TAG_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    tag: int
    status: _status_pb2.Status
    batch: SearchBatchResponse
    def __init__(self, tag: _Optional[int] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., batch: _Optional[_Union[SearchBatchResponse, _Mapping]] = ...) -> None: ...

class EncodeRequest(_message.Message):
    __slots__ = ("collection", "version", "texts", "priority")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    collection: str
    version: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    priority: Priority
    def __init__(self, collection: _Optional[str] = ..., version: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., priority: _Optional[_Union[Priority, str]] = ...) -> None: ...

class EncodeResponse(_message.Message):
    __slots__ = ("vectors", "truncated_tokens", "encoder_version")
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ENCODER_VERSION_FIELD_NUMBER: _ClassVar[int]
    vectors: _common_pb2.Tensor
    truncated_tokens: _containers.RepeatedScalarFieldContainer[int]
    encoder_version: str
    def __init__(self, vectors: _Optional[_Union[_common_pb2.Tensor, _Mapping]] = ..., truncated_tokens: _Optional[_Iterable[int]] = ..., encoder_version: _Optional[str] = ...) -> None: ...
