import datetime

from engine.v1 import common_pb2 as _common_pb2
from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IdType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ID_TYPE_UNSPECIFIED: _ClassVar[IdType]
    ID_TYPE_STRING: _ClassVar[IdType]
    ID_TYPE_UINT64: _ClassVar[IdType]

class AttributeType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTRIBUTE_TYPE_UNSPECIFIED: _ClassVar[AttributeType]
    ATTRIBUTE_TYPE_KEYWORD: _ClassVar[AttributeType]
    ATTRIBUTE_TYPE_KEYWORD_LIST: _ClassVar[AttributeType]
    ATTRIBUTE_TYPE_BOOL: _ClassVar[AttributeType]
    ATTRIBUTE_TYPE_INT: _ClassVar[AttributeType]
    ATTRIBUTE_TYPE_FLOAT: _ClassVar[AttributeType]
    ATTRIBUTE_TYPE_TIMESTAMP: _ClassVar[AttributeType]
    ATTRIBUTE_TYPE_GEO_POINT: _ClassVar[AttributeType]

class TextMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TEXT_MODE_UNSPECIFIED: _ClassVar[TextMode]
    TEXT_MODE_JOINED: _ClassVar[TextMode]
    TEXT_MODE_WEIGHTED: _ClassVar[TextMode]

class Analyser(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ANALYSER_UNSPECIFIED: _ClassVar[Analyser]
    ANALYSER_ENGLISH: _ClassVar[Analyser]
    ANALYSER_PLAIN: _ClassVar[Analyser]

class LegForm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEG_FORM_UNSPECIFIED: _ClassVar[LegForm]
    LEG_FORM_NORMALISED: _ClassVar[LegForm]
    LEG_FORM_RAW: _ClassVar[LegForm]

class Combine(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMBINE_UNSPECIFIED: _ClassVar[Combine]
    COMBINE_WEIGHTED: _ClassVar[Combine]
    COMBINE_MAXIMUM: _ClassVar[Combine]
ID_TYPE_UNSPECIFIED: IdType
ID_TYPE_STRING: IdType
ID_TYPE_UINT64: IdType
ATTRIBUTE_TYPE_UNSPECIFIED: AttributeType
ATTRIBUTE_TYPE_KEYWORD: AttributeType
ATTRIBUTE_TYPE_KEYWORD_LIST: AttributeType
ATTRIBUTE_TYPE_BOOL: AttributeType
ATTRIBUTE_TYPE_INT: AttributeType
ATTRIBUTE_TYPE_FLOAT: AttributeType
ATTRIBUTE_TYPE_TIMESTAMP: AttributeType
ATTRIBUTE_TYPE_GEO_POINT: AttributeType
TEXT_MODE_UNSPECIFIED: TextMode
TEXT_MODE_JOINED: TextMode
TEXT_MODE_WEIGHTED: TextMode
ANALYSER_UNSPECIFIED: Analyser
ANALYSER_ENGLISH: Analyser
ANALYSER_PLAIN: Analyser
LEG_FORM_UNSPECIFIED: LegForm
LEG_FORM_NORMALISED: LegForm
LEG_FORM_RAW: LegForm
COMBINE_UNSPECIFIED: Combine
COMBINE_WEIGHTED: Combine
COMBINE_MAXIMUM: Combine

class TextField(_message.Message):
    __slots__ = ("name", "order", "weight", "analyser", "lexical_weight")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ANALYSER_FIELD_NUMBER: _ClassVar[int]
    LEXICAL_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    name: str
    order: int
    weight: float
    analyser: Analyser
    lexical_weight: float
    def __init__(self, name: _Optional[str] = ..., order: _Optional[int] = ..., weight: _Optional[float] = ..., analyser: _Optional[_Union[Analyser, str]] = ..., lexical_weight: _Optional[float] = ...) -> None: ...

class AttributeSpec(_message.Message):
    __slots__ = ("name", "type", "stored", "filterable", "volatile")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    FILTERABLE_FIELD_NUMBER: _ClassVar[int]
    VOLATILE_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: AttributeType
    stored: bool
    filterable: bool
    volatile: bool
    def __init__(self, name: _Optional[str] = ..., type: _Optional[_Union[AttributeType, str]] = ..., stored: bool = ..., filterable: bool = ..., volatile: bool = ...) -> None: ...

class LegInput(_message.Message):
    __slots__ = ("leg", "form", "missing")
    LEG_FIELD_NUMBER: _ClassVar[int]
    FORM_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    leg: str
    form: LegForm
    missing: float
    def __init__(self, leg: _Optional[str] = ..., form: _Optional[_Union[LegForm, str]] = ..., missing: _Optional[float] = ...) -> None: ...

class NumberInput(_message.Message):
    __slots__ = ("attribute", "missing")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    missing: float
    def __init__(self, attribute: _Optional[str] = ..., missing: _Optional[float] = ...) -> None: ...

class KeywordInput(_message.Message):
    __slots__ = ("attribute", "vocabulary", "buckets")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    vocabulary: _containers.RepeatedScalarFieldContainer[str]
    buckets: int
    def __init__(self, attribute: _Optional[str] = ..., vocabulary: _Optional[_Iterable[str]] = ..., buckets: _Optional[int] = ...) -> None: ...

class QueryInput(_message.Message):
    __slots__ = ("feature", "size", "missing")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    feature: str
    size: int
    missing: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, feature: _Optional[str] = ..., size: _Optional[int] = ..., missing: _Optional[_Iterable[float]] = ...) -> None: ...

class RankInput(_message.Message):
    __slots__ = ("name", "leg", "number", "keyword", "query")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LEG_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    KEYWORD_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    name: str
    leg: LegInput
    number: NumberInput
    keyword: KeywordInput
    query: QueryInput
    def __init__(self, name: _Optional[str] = ..., leg: _Optional[_Union[LegInput, _Mapping]] = ..., number: _Optional[_Union[NumberInput, _Mapping]] = ..., keyword: _Optional[_Union[KeywordInput, _Mapping]] = ..., query: _Optional[_Union[QueryInput, _Mapping]] = ...) -> None: ...

class RankStage(_message.Message):
    __slots__ = ("model", "inputs", "deadline_share", "max_candidates")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_SHARE_FIELD_NUMBER: _ClassVar[int]
    MAX_CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    model: str
    inputs: _containers.RepeatedCompositeFieldContainer[RankInput]
    deadline_share: float
    max_candidates: int
    def __init__(self, model: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[RankInput, _Mapping]]] = ..., deadline_share: _Optional[float] = ..., max_candidates: _Optional[int] = ...) -> None: ...

class Pipeline(_message.Message):
    __slots__ = ("retrieve", "rank", "ranker_version", "error")
    RETRIEVE_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    RANKER_VERSION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    retrieve: int
    rank: RankStage
    ranker_version: str
    error: str
    def __init__(self, retrieve: _Optional[int] = ..., rank: _Optional[_Union[RankStage, _Mapping]] = ..., ranker_version: _Optional[str] = ..., error: _Optional[str] = ...) -> None: ...

class EmbeddingSpec(_message.Message):
    __slots__ = ("name", "text_fields", "weight", "dimension")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELDS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    text_fields: _containers.RepeatedScalarFieldContainer[str]
    weight: float
    dimension: int
    def __init__(self, name: _Optional[str] = ..., text_fields: _Optional[_Iterable[str]] = ..., weight: _Optional[float] = ..., dimension: _Optional[int] = ...) -> None: ...

class Schema(_message.Message):
    __slots__ = ("name", "id_type", "metric", "dtype", "encoder", "dimension", "text_fields", "text_mode", "chunk", "attributes", "bm25_k1", "bm25_b", "profiles", "default_profile", "embeddings", "combine", "pipeline")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_TYPE_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELDS_FIELD_NUMBER: _ClassVar[int]
    TEXT_MODE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    BM25_K1_FIELD_NUMBER: _ClassVar[int]
    BM25_B_FIELD_NUMBER: _ClassVar[int]
    PROFILES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_PROFILE_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    COMBINE_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    name: str
    id_type: IdType
    metric: _common_pb2.Metric
    dtype: _common_pb2.Dtype
    encoder: str
    dimension: int
    text_fields: _containers.RepeatedCompositeFieldContainer[TextField]
    text_mode: TextMode
    chunk: int
    attributes: _containers.RepeatedCompositeFieldContainer[AttributeSpec]
    bm25_k1: float
    bm25_b: float
    profiles: _containers.RepeatedCompositeFieldContainer[_common_pb2.ScoringProfile]
    default_profile: str
    embeddings: _containers.RepeatedCompositeFieldContainer[EmbeddingSpec]
    combine: Combine
    pipeline: Pipeline
    def __init__(self, name: _Optional[str] = ..., id_type: _Optional[_Union[IdType, str]] = ..., metric: _Optional[_Union[_common_pb2.Metric, str]] = ..., dtype: _Optional[_Union[_common_pb2.Dtype, str]] = ..., encoder: _Optional[str] = ..., dimension: _Optional[int] = ..., text_fields: _Optional[_Iterable[_Union[TextField, _Mapping]]] = ..., text_mode: _Optional[_Union[TextMode, str]] = ..., chunk: _Optional[int] = ..., attributes: _Optional[_Iterable[_Union[AttributeSpec, _Mapping]]] = ..., bm25_k1: _Optional[float] = ..., bm25_b: _Optional[float] = ..., profiles: _Optional[_Iterable[_Union[_common_pb2.ScoringProfile, _Mapping]]] = ..., default_profile: _Optional[str] = ..., embeddings: _Optional[_Iterable[_Union[EmbeddingSpec, _Mapping]]] = ..., combine: _Optional[_Union[Combine, str]] = ..., pipeline: _Optional[_Union[Pipeline, _Mapping]] = ...) -> None: ...

class CreateCollectionRequest(_message.Message):
    __slots__ = ("schema",)
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    schema: Schema
    def __init__(self, schema: _Optional[_Union[Schema, _Mapping]] = ...) -> None: ...

class CreateCollectionResponse(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: Collection
    def __init__(self, collection: _Optional[_Union[Collection, _Mapping]] = ...) -> None: ...

class GetCollectionRequest(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    def __init__(self, collection: _Optional[str] = ...) -> None: ...

class GetCollectionResponse(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: Collection
    def __init__(self, collection: _Optional[_Union[Collection, _Mapping]] = ...) -> None: ...

class MemoryUse(_message.Message):
    __slots__ = ("vectors", "codes", "attributes", "rows", "row_count", "coarse_codes", "lexical")
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    COARSE_CODES_FIELD_NUMBER: _ClassVar[int]
    LEXICAL_FIELD_NUMBER: _ClassVar[int]
    vectors: int
    codes: int
    attributes: int
    rows: int
    row_count: int
    coarse_codes: int
    lexical: int
    def __init__(self, vectors: _Optional[int] = ..., codes: _Optional[int] = ..., attributes: _Optional[int] = ..., rows: _Optional[int] = ..., row_count: _Optional[int] = ..., coarse_codes: _Optional[int] = ..., lexical: _Optional[int] = ...) -> None: ...

class IvfPq(_message.Message):
    __slots__ = ("nlist", "code_bytes", "rows", "nprobe", "rescore_depth", "expected_recall", "drift", "imbalance")
    NLIST_FIELD_NUMBER: _ClassVar[int]
    CODE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    NPROBE_FIELD_NUMBER: _ClassVar[int]
    RESCORE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_RECALL_FIELD_NUMBER: _ClassVar[int]
    DRIFT_FIELD_NUMBER: _ClassVar[int]
    IMBALANCE_FIELD_NUMBER: _ClassVar[int]
    nlist: int
    code_bytes: int
    rows: int
    nprobe: int
    rescore_depth: int
    expected_recall: float
    drift: float
    imbalance: float
    def __init__(self, nlist: _Optional[int] = ..., code_bytes: _Optional[int] = ..., rows: _Optional[int] = ..., nprobe: _Optional[int] = ..., rescore_depth: _Optional[int] = ..., expected_recall: _Optional[float] = ..., drift: _Optional[float] = ..., imbalance: _Optional[float] = ...) -> None: ...

class Collection(_message.Message):
    __slots__ = ("schema", "versions", "items", "sequence", "searchable_sequence", "truncated_items", "upkeep_paused")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SEARCHABLE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    UPKEEP_PAUSED_FIELD_NUMBER: _ClassVar[int]
    schema: Schema
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    items: int
    sequence: int
    searchable_sequence: int
    truncated_items: int
    upkeep_paused: bool
    def __init__(self, schema: _Optional[_Union[Schema, _Mapping]] = ..., versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ..., items: _Optional[int] = ..., sequence: _Optional[int] = ..., searchable_sequence: _Optional[int] = ..., truncated_items: _Optional[int] = ..., upkeep_paused: bool = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("id", "encoder_version", "dimension", "metric", "dtype", "active", "created_at", "memory", "ivfpq", "upkeep", "max_tokens")
    ID_FIELD_NUMBER: _ClassVar[int]
    ENCODER_VERSION_FIELD_NUMBER: _ClassVar[int]
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    IVFPQ_FIELD_NUMBER: _ClassVar[int]
    UPKEEP_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    id: str
    encoder_version: str
    dimension: int
    metric: _common_pb2.Metric
    dtype: _common_pb2.Dtype
    active: bool
    created_at: _timestamp_pb2.Timestamp
    memory: MemoryUse
    ivfpq: IvfPq
    upkeep: str
    max_tokens: int
    def __init__(self, id: _Optional[str] = ..., encoder_version: _Optional[str] = ..., dimension: _Optional[int] = ..., metric: _Optional[_Union[_common_pb2.Metric, str]] = ..., dtype: _Optional[_Union[_common_pb2.Dtype, str]] = ..., active: bool = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., memory: _Optional[_Union[MemoryUse, _Mapping]] = ..., ivfpq: _Optional[_Union[IvfPq, _Mapping]] = ..., upkeep: _Optional[str] = ..., max_tokens: _Optional[int] = ...) -> None: ...

class ListCollectionsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListCollectionsResponse(_message.Message):
    __slots__ = ("collections", "next_page_token")
    COLLECTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    collections: _containers.RepeatedCompositeFieldContainer[Collection]
    next_page_token: str
    def __init__(self, collections: _Optional[_Iterable[_Union[Collection, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteCollectionRequest(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    def __init__(self, collection: _Optional[str] = ...) -> None: ...

class DeleteCollectionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AddAttributeRequest(_message.Message):
    __slots__ = ("collection", "attribute")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    collection: str
    attribute: AttributeSpec
    def __init__(self, collection: _Optional[str] = ..., attribute: _Optional[_Union[AttributeSpec, _Mapping]] = ...) -> None: ...

class AddAttributeResponse(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: Collection
    def __init__(self, collection: _Optional[_Union[Collection, _Mapping]] = ...) -> None: ...

class SetProfileRequest(_message.Message):
    __slots__ = ("collection", "profile", "default_profile")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_PROFILE_FIELD_NUMBER: _ClassVar[int]
    collection: str
    profile: _common_pb2.ScoringProfile
    default_profile: bool
    def __init__(self, collection: _Optional[str] = ..., profile: _Optional[_Union[_common_pb2.ScoringProfile, _Mapping]] = ..., default_profile: bool = ...) -> None: ...

class SetProfileResponse(_message.Message):
    __slots__ = ("profile",)
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    profile: _common_pb2.ScoringProfile
    def __init__(self, profile: _Optional[_Union[_common_pb2.ScoringProfile, _Mapping]] = ...) -> None: ...

class RemoveProfileRequest(_message.Message):
    __slots__ = ("collection", "profile")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    collection: str
    profile: str
    def __init__(self, collection: _Optional[str] = ..., profile: _Optional[str] = ...) -> None: ...

class RemoveProfileResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SetPipelineRequest(_message.Message):
    __slots__ = ("collection", "pipeline")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    collection: str
    pipeline: Pipeline
    def __init__(self, collection: _Optional[str] = ..., pipeline: _Optional[_Union[Pipeline, _Mapping]] = ...) -> None: ...

class SetPipelineResponse(_message.Message):
    __slots__ = ("pipeline",)
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    pipeline: Pipeline
    def __init__(self, pipeline: _Optional[_Union[Pipeline, _Mapping]] = ...) -> None: ...

class RemovePipelineRequest(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    def __init__(self, collection: _Optional[str] = ...) -> None: ...

class RemovePipelineResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CompactCollectionRequest(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    def __init__(self, collection: _Optional[str] = ...) -> None: ...

class CompactCollectionResponse(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: Operation
    def __init__(self, operation: _Optional[_Union[Operation, _Mapping]] = ...) -> None: ...

class PauseUpkeepRequest(_message.Message):
    __slots__ = ("collection", "cancel")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    collection: str
    cancel: bool
    def __init__(self, collection: _Optional[str] = ..., cancel: bool = ...) -> None: ...

class PauseUpkeepResponse(_message.Message):
    __slots__ = ("operations",)
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    def __init__(self, operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ...) -> None: ...

class ResumeUpkeepRequest(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    def __init__(self, collection: _Optional[str] = ...) -> None: ...

class ResumeUpkeepResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateVersionRequest(_message.Message):
    __slots__ = ("collection", "encoder")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    encoder: str
    def __init__(self, collection: _Optional[str] = ..., encoder: _Optional[str] = ...) -> None: ...

class CreateVersionResponse(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: Operation
    def __init__(self, operation: _Optional[_Union[Operation, _Mapping]] = ...) -> None: ...

class ListVersionsRequest(_message.Message):
    __slots__ = ("collection", "page_size", "page_token")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    collection: str
    page_size: int
    page_token: str
    def __init__(self, collection: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListVersionsResponse(_message.Message):
    __slots__ = ("versions", "next_page_token")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    next_page_token: str
    def __init__(self, versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ActivateVersionRequest(_message.Message):
    __slots__ = ("collection", "version", "etag")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    collection: str
    version: str
    etag: str
    def __init__(self, collection: _Optional[str] = ..., version: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class ActivateVersionResponse(_message.Message):
    __slots__ = ("version", "etag")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    version: Version
    etag: str
    def __init__(self, version: _Optional[_Union[Version, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class RollBackVersionRequest(_message.Message):
    __slots__ = ("collection", "etag")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    collection: str
    etag: str
    def __init__(self, collection: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class RollBackVersionResponse(_message.Message):
    __slots__ = ("version", "etag")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    version: Version
    etag: str
    def __init__(self, version: _Optional[_Union[Version, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class DeleteVersionRequest(_message.Message):
    __slots__ = ("collection", "version")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    version: str
    def __init__(self, collection: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class DeleteVersionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("id", "collection", "sequence", "created_at", "size_bytes", "items")
    ID_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    id: str
    collection: str
    sequence: int
    created_at: _timestamp_pb2.Timestamp
    size_bytes: int
    items: int
    def __init__(self, id: _Optional[str] = ..., collection: _Optional[str] = ..., sequence: _Optional[int] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., size_bytes: _Optional[int] = ..., items: _Optional[int] = ...) -> None: ...

class CreateSnapshotRequest(_message.Message):
    __slots__ = ("collection", "to")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    collection: str
    to: str
    def __init__(self, collection: _Optional[str] = ..., to: _Optional[str] = ...) -> None: ...

class CreateSnapshotResponse(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: Operation
    def __init__(self, operation: _Optional[_Union[Operation, _Mapping]] = ...) -> None: ...

class ListSnapshotsRequest(_message.Message):
    __slots__ = ("collection", "page_size", "page_token")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    collection: str
    page_size: int
    page_token: str
    def __init__(self, collection: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSnapshotsResponse(_message.Message):
    __slots__ = ("snapshots", "next_page_token")
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    snapshots: _containers.RepeatedCompositeFieldContainer[Snapshot]
    next_page_token: str
    def __init__(self, snapshots: _Optional[_Iterable[_Union[Snapshot, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RestoreSnapshotRequest(_message.Message):
    __slots__ = ("collection", "snapshot", "into", "url")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    INTO_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    collection: str
    snapshot: str
    into: str
    url: str
    def __init__(self, collection: _Optional[str] = ..., snapshot: _Optional[str] = ..., into: _Optional[str] = ..., url: _Optional[str] = ...) -> None: ...

class RestoreSnapshotResponse(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: Operation
    def __init__(self, operation: _Optional[_Union[Operation, _Mapping]] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("name", "done", "progress", "stage", "error", "response", "kind", "collection", "began_at", "ended_at")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    BEGAN_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    name: str
    done: bool
    progress: float
    stage: str
    error: _status_pb2.Status
    response: _any_pb2.Any
    kind: str
    collection: str
    began_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., done: bool = ..., progress: _Optional[float] = ..., stage: _Optional[str] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., response: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., kind: _Optional[str] = ..., collection: _Optional[str] = ..., began_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetOperationRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetOperationResponse(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: Operation
    def __init__(self, operation: _Optional[_Union[Operation, _Mapping]] = ...) -> None: ...

class ListOperationsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListOperationsResponse(_message.Message):
    __slots__ = ("operations", "next_page_token")
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    next_page_token: str
    def __init__(self, operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CancelOperationRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class CancelOperationResponse(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: Operation
    def __init__(self, operation: _Optional[_Union[Operation, _Mapping]] = ...) -> None: ...

class GetServerRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Limits(_message.Message):
    __slots__ = ("k", "batch_queries", "filter_depth", "filter_conditions", "exclude_ids", "text_bytes", "item_bytes", "upsert_items", "page_size", "message_bytes", "reply_hits", "dimension", "attributes", "chunk", "scoring_terms", "overlap_values", "profiles", "diversity_candidates", "examples", "facets", "facet_values", "paged_hits")
    K_FIELD_NUMBER: _ClassVar[int]
    BATCH_QUERIES_FIELD_NUMBER: _ClassVar[int]
    FILTER_DEPTH_FIELD_NUMBER: _ClassVar[int]
    FILTER_CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_IDS_FIELD_NUMBER: _ClassVar[int]
    TEXT_BYTES_FIELD_NUMBER: _ClassVar[int]
    ITEM_BYTES_FIELD_NUMBER: _ClassVar[int]
    UPSERT_ITEMS_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    REPLY_HITS_FIELD_NUMBER: _ClassVar[int]
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SCORING_TERMS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_VALUES_FIELD_NUMBER: _ClassVar[int]
    PROFILES_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    FACETS_FIELD_NUMBER: _ClassVar[int]
    FACET_VALUES_FIELD_NUMBER: _ClassVar[int]
    PAGED_HITS_FIELD_NUMBER: _ClassVar[int]
    k: int
    batch_queries: int
    filter_depth: int
    filter_conditions: int
    exclude_ids: int
    text_bytes: int
    item_bytes: int
    upsert_items: int
    page_size: int
    message_bytes: int
    reply_hits: int
    dimension: int
    attributes: int
    chunk: int
    scoring_terms: int
    overlap_values: int
    profiles: int
    diversity_candidates: int
    examples: int
    facets: int
    facet_values: int
    paged_hits: int
    def __init__(self, k: _Optional[int] = ..., batch_queries: _Optional[int] = ..., filter_depth: _Optional[int] = ..., filter_conditions: _Optional[int] = ..., exclude_ids: _Optional[int] = ..., text_bytes: _Optional[int] = ..., item_bytes: _Optional[int] = ..., upsert_items: _Optional[int] = ..., page_size: _Optional[int] = ..., message_bytes: _Optional[int] = ..., reply_hits: _Optional[int] = ..., dimension: _Optional[int] = ..., attributes: _Optional[int] = ..., chunk: _Optional[int] = ..., scoring_terms: _Optional[int] = ..., overlap_values: _Optional[int] = ..., profiles: _Optional[int] = ..., diversity_candidates: _Optional[int] = ..., examples: _Optional[int] = ..., facets: _Optional[int] = ..., facet_values: _Optional[int] = ..., paged_hits: _Optional[int] = ...) -> None: ...

class Library(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class GetServerResponse(_message.Message):
    __slots__ = ("engine_version", "device", "limits", "libraries", "peak_memory_bytes", "started_at", "start_seconds", "upkeep_paused")
    class StartSecondsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    LIBRARIES_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    UPKEEP_PAUSED_FIELD_NUMBER: _ClassVar[int]
    engine_version: str
    device: str
    limits: Limits
    libraries: _containers.RepeatedCompositeFieldContainer[Library]
    peak_memory_bytes: int
    started_at: _timestamp_pb2.Timestamp
    start_seconds: _containers.ScalarMap[str, float]
    upkeep_paused: bool
    def __init__(self, engine_version: _Optional[str] = ..., device: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., libraries: _Optional[_Iterable[_Union[Library, _Mapping]]] = ..., peak_memory_bytes: _Optional[int] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_seconds: _Optional[_Mapping[str, float]] = ..., upkeep_paused: bool = ...) -> None: ...
