import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Dtype(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[Dtype]
    DTYPE_FLOAT32: _ClassVar[Dtype]
    DTYPE_FLOAT16: _ClassVar[Dtype]
    DTYPE_BFLOAT16: _ClassVar[Dtype]

class Metric(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    METRIC_UNSPECIFIED: _ClassVar[Metric]
    METRIC_COSINE: _ClassVar[Metric]
    METRIC_DOT: _ClassVar[Metric]
    METRIC_L2: _ClassVar[Metric]

class Scale(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCALE_UNSPECIFIED: _ClassVar[Scale]
    SCALE_LINEAR: _ClassVar[Scale]
    SCALE_LOG1P: _ClassVar[Scale]
DTYPE_UNSPECIFIED: Dtype
DTYPE_FLOAT32: Dtype
DTYPE_FLOAT16: Dtype
DTYPE_BFLOAT16: Dtype
METRIC_UNSPECIFIED: Metric
METRIC_COSINE: Metric
METRIC_DOT: Metric
METRIC_L2: Metric
SCALE_UNSPECIFIED: Scale
SCALE_LINEAR: Scale
SCALE_LOG1P: Scale

class Tensor(_message.Message):
    __slots__ = ("content", "rows", "dimension", "dtype")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    content: bytes
    rows: int
    dimension: int
    dtype: Dtype
    def __init__(self, content: _Optional[bytes] = ..., rows: _Optional[int] = ..., dimension: _Optional[int] = ..., dtype: _Optional[_Union[Dtype, str]] = ...) -> None: ...

class Vector(_message.Message):
    __slots__ = ("floats", "encoded")
    FLOATS_FIELD_NUMBER: _ClassVar[int]
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    floats: PackedFloats
    encoded: VectorBytes
    def __init__(self, floats: _Optional[_Union[PackedFloats, _Mapping]] = ..., encoded: _Optional[_Union[VectorBytes, _Mapping]] = ...) -> None: ...

class PackedFloats(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class VectorBytes(_message.Message):
    __slots__ = ("content", "dtype")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    content: bytes
    dtype: Dtype
    def __init__(self, content: _Optional[bytes] = ..., dtype: _Optional[_Union[Dtype, str]] = ...) -> None: ...

class ItemId(_message.Message):
    __slots__ = ("number", "text")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    number: int
    text: str
    def __init__(self, number: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class ItemIds(_message.Message):
    __slots__ = ("numbers", "texts")
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    numbers: bytes
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, numbers: _Optional[bytes] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class GeoPoint(_message.Message):
    __slots__ = ("lat", "lon")
    LAT_FIELD_NUMBER: _ClassVar[int]
    LON_FIELD_NUMBER: _ClassVar[int]
    lat: float
    lon: float
    def __init__(self, lat: _Optional[float] = ..., lon: _Optional[float] = ...) -> None: ...

class KeywordList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("keyword", "keywords", "boolean", "integer", "number", "timestamp", "geo_point")
    KEYWORD_FIELD_NUMBER: _ClassVar[int]
    KEYWORDS_FIELD_NUMBER: _ClassVar[int]
    BOOLEAN_FIELD_NUMBER: _ClassVar[int]
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    GEO_POINT_FIELD_NUMBER: _ClassVar[int]
    keyword: str
    keywords: KeywordList
    boolean: bool
    integer: int
    number: float
    timestamp: _timestamp_pb2.Timestamp
    geo_point: GeoPoint
    def __init__(self, keyword: _Optional[str] = ..., keywords: _Optional[_Union[KeywordList, _Mapping]] = ..., boolean: bool = ..., integer: _Optional[int] = ..., number: _Optional[float] = ..., timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., geo_point: _Optional[_Union[GeoPoint, _Mapping]] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("id", "text", "attributes", "vectors", "if_sequence", "visible_from", "expires_at", "named_vectors")
    class TextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    class NamedVectorsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Tensor
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    IF_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_FROM_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    NAMED_VECTORS_FIELD_NUMBER: _ClassVar[int]
    id: ItemId
    text: _containers.ScalarMap[str, str]
    attributes: _containers.MessageMap[str, Value]
    vectors: Tensor
    if_sequence: int
    visible_from: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    named_vectors: _containers.MessageMap[str, Tensor]
    def __init__(self, id: _Optional[_Union[ItemId, _Mapping]] = ..., text: _Optional[_Mapping[str, str]] = ..., attributes: _Optional[_Mapping[str, Value]] = ..., vectors: _Optional[_Union[Tensor, _Mapping]] = ..., if_sequence: _Optional[int] = ..., visible_from: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., named_vectors: _Optional[_Mapping[str, Tensor]] = ...) -> None: ...

class Filter(_message.Message):
    __slots__ = ("must", "should", "must_not", "min_should")
    MUST_FIELD_NUMBER: _ClassVar[int]
    SHOULD_FIELD_NUMBER: _ClassVar[int]
    MUST_NOT_FIELD_NUMBER: _ClassVar[int]
    MIN_SHOULD_FIELD_NUMBER: _ClassVar[int]
    must: _containers.RepeatedCompositeFieldContainer[Condition]
    should: _containers.RepeatedCompositeFieldContainer[Condition]
    must_not: _containers.RepeatedCompositeFieldContainer[Condition]
    min_should: int
    def __init__(self, must: _Optional[_Iterable[_Union[Condition, _Mapping]]] = ..., should: _Optional[_Iterable[_Union[Condition, _Mapping]]] = ..., must_not: _Optional[_Iterable[_Union[Condition, _Mapping]]] = ..., min_should: _Optional[int] = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("match", "range", "geo_radius", "has_id", "is_null", "filter", "contains")
    MATCH_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    GEO_RADIUS_FIELD_NUMBER: _ClassVar[int]
    HAS_ID_FIELD_NUMBER: _ClassVar[int]
    IS_NULL_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    CONTAINS_FIELD_NUMBER: _ClassVar[int]
    match: Match
    range: Range
    geo_radius: GeoRadius
    has_id: HasId
    is_null: IsNull
    filter: Filter
    contains: Contains
    def __init__(self, match: _Optional[_Union[Match, _Mapping]] = ..., range: _Optional[_Union[Range, _Mapping]] = ..., geo_radius: _Optional[_Union[GeoRadius, _Mapping]] = ..., has_id: _Optional[_Union[HasId, _Mapping]] = ..., is_null: _Optional[_Union[IsNull, _Mapping]] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., contains: _Optional[_Union[Contains, _Mapping]] = ...) -> None: ...

class Match(_message.Message):
    __slots__ = ("attribute", "any_of", "except_any")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    ANY_OF_FIELD_NUMBER: _ClassVar[int]
    EXCEPT_ANY_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    any_of: MatchValues
    except_any: MatchValues
    def __init__(self, attribute: _Optional[str] = ..., any_of: _Optional[_Union[MatchValues, _Mapping]] = ..., except_any: _Optional[_Union[MatchValues, _Mapping]] = ...) -> None: ...

class MatchValues(_message.Message):
    __slots__ = ("keywords", "integers", "booleans")
    KEYWORDS_FIELD_NUMBER: _ClassVar[int]
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    BOOLEANS_FIELD_NUMBER: _ClassVar[int]
    keywords: _containers.RepeatedScalarFieldContainer[str]
    integers: _containers.RepeatedScalarFieldContainer[int]
    booleans: _containers.RepeatedScalarFieldContainer[bool]
    def __init__(self, keywords: _Optional[_Iterable[str]] = ..., integers: _Optional[_Iterable[int]] = ..., booleans: _Optional[_Iterable[bool]] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("attribute", "gt", "gte", "lt", "lte")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    GT_FIELD_NUMBER: _ClassVar[int]
    GTE_FIELD_NUMBER: _ClassVar[int]
    LT_FIELD_NUMBER: _ClassVar[int]
    LTE_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    gt: Bound
    gte: Bound
    lt: Bound
    lte: Bound
    def __init__(self, attribute: _Optional[str] = ..., gt: _Optional[_Union[Bound, _Mapping]] = ..., gte: _Optional[_Union[Bound, _Mapping]] = ..., lt: _Optional[_Union[Bound, _Mapping]] = ..., lte: _Optional[_Union[Bound, _Mapping]] = ...) -> None: ...

class Bound(_message.Message):
    __slots__ = ("integer", "number", "timestamp")
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    integer: int
    number: float
    timestamp: _timestamp_pb2.Timestamp
    def __init__(self, integer: _Optional[int] = ..., number: _Optional[float] = ..., timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GeoRadius(_message.Message):
    __slots__ = ("attribute", "center", "radius_m")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    CENTER_FIELD_NUMBER: _ClassVar[int]
    RADIUS_M_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    center: GeoPoint
    radius_m: float
    def __init__(self, attribute: _Optional[str] = ..., center: _Optional[_Union[GeoPoint, _Mapping]] = ..., radius_m: _Optional[float] = ...) -> None: ...

class HasId(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: ItemIds
    def __init__(self, ids: _Optional[_Union[ItemIds, _Mapping]] = ...) -> None: ...

class IsNull(_message.Message):
    __slots__ = ("attribute",)
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    def __init__(self, attribute: _Optional[str] = ...) -> None: ...

class Contains(_message.Message):
    __slots__ = ("field", "text")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    field: str
    text: str
    def __init__(self, field: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class Feature(_message.Message):
    __slots__ = ("attribute", "scale", "low", "high", "missing")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    scale: Scale
    low: float
    high: float
    missing: float
    def __init__(self, attribute: _Optional[str] = ..., scale: _Optional[_Union[Scale, str]] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., missing: _Optional[float] = ...) -> None: ...

class Decay(_message.Message):
    __slots__ = ("attribute", "half_life_s", "missing")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    HALF_LIFE_S_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    half_life_s: float
    missing: float
    def __init__(self, attribute: _Optional[str] = ..., half_life_s: _Optional[float] = ..., missing: _Optional[float] = ...) -> None: ...

class Overlap(_message.Message):
    __slots__ = ("attribute", "values", "value_weights")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    VALUE_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    values: _containers.RepeatedScalarFieldContainer[str]
    value_weights: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, attribute: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ..., value_weights: _Optional[_Iterable[float]] = ...) -> None: ...

class ScoringTerm(_message.Message):
    __slots__ = ("name", "weight", "feature", "decay", "overlap")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    DECAY_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    name: str
    weight: float
    feature: Feature
    decay: Decay
    overlap: Overlap
    def __init__(self, name: _Optional[str] = ..., weight: _Optional[float] = ..., feature: _Optional[_Union[Feature, _Mapping]] = ..., decay: _Optional[_Union[Decay, _Mapping]] = ..., overlap: _Optional[_Union[Overlap, _Mapping]] = ...) -> None: ...

class Scoring(_message.Message):
    __slots__ = ("profile", "similarity", "lexical", "terms", "weights")
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    LEXICAL_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    profile: str
    similarity: float
    lexical: float
    terms: _containers.RepeatedCompositeFieldContainer[ScoringTerm]
    weights: _containers.ScalarMap[str, float]
    def __init__(self, profile: _Optional[str] = ..., similarity: _Optional[float] = ..., lexical: _Optional[float] = ..., terms: _Optional[_Iterable[_Union[ScoringTerm, _Mapping]]] = ..., weights: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ScoringProfile(_message.Message):
    __slots__ = ("name", "similarity", "lexical", "terms", "revision")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    LEXICAL_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    name: str
    similarity: float
    lexical: float
    terms: _containers.RepeatedCompositeFieldContainer[ScoringTerm]
    revision: int
    def __init__(self, name: _Optional[str] = ..., similarity: _Optional[float] = ..., lexical: _Optional[float] = ..., terms: _Optional[_Iterable[_Union[ScoringTerm, _Mapping]]] = ..., revision: _Optional[int] = ...) -> None: ...
