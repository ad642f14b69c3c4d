import datetime

from engine.v1 import common_pb2 as _common_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Visibility(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VISIBILITY_UNSPECIFIED: _ClassVar[Visibility]
    VISIBILITY_COMMITTED: _ClassVar[Visibility]
    VISIBILITY_DURABLE: _ClassVar[Visibility]
    VISIBILITY_SEARCHABLE: _ClassVar[Visibility]

class WritePriority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WRITE_PRIORITY_UNSPECIFIED: _ClassVar[WritePriority]
    WRITE_PRIORITY_NORMAL: _ClassVar[WritePriority]
    WRITE_PRIORITY_BULK: _ClassVar[WritePriority]
VISIBILITY_UNSPECIFIED: Visibility
VISIBILITY_COMMITTED: Visibility
VISIBILITY_DURABLE: Visibility
VISIBILITY_SEARCHABLE: Visibility
WRITE_PRIORITY_UNSPECIFIED: WritePriority
WRITE_PRIORITY_NORMAL: WritePriority
WRITE_PRIORITY_BULK: WritePriority

class UpsertRequest(_message.Message):
    __slots__ = ("collection", "items", "visibility", "request_id", "priority")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    collection: str
    items: _containers.RepeatedCompositeFieldContainer[_common_pb2.Item]
    visibility: Visibility
    request_id: str
    priority: WritePriority
    def __init__(self, collection: _Optional[str] = ..., items: _Optional[_Iterable[_Union[_common_pb2.Item, _Mapping]]] = ..., visibility: _Optional[_Union[Visibility, str]] = ..., request_id: _Optional[str] = ..., priority: _Optional[_Union[WritePriority, str]] = ...) -> None: ...

class ItemError(_message.Message):
    __slots__ = ("index", "id", "status")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    index: int
    id: _common_pb2.ItemId
    status: _status_pb2.Status
    def __init__(self, index: _Optional[int] = ..., id: _Optional[_Union[_common_pb2.ItemId, _Mapping]] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class UpsertResponse(_message.Message):
    __slots__ = ("sequence", "accepted", "errors", "truncated_items", "truncated_tokens", "unchanged_texts", "request_id")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_TEXTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    accepted: int
    errors: _containers.RepeatedCompositeFieldContainer[ItemError]
    truncated_items: int
    truncated_tokens: int
    unchanged_texts: int
    request_id: str
    def __init__(self, sequence: _Optional[int] = ..., accepted: _Optional[int] = ..., errors: _Optional[_Iterable[_Union[ItemError, _Mapping]]] = ..., truncated_items: _Optional[int] = ..., truncated_tokens: _Optional[int] = ..., unchanged_texts: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class AttributeColumn(_message.Message):
    __slots__ = ("name", "keywords", "keyword_lists", "booleans", "integers", "numbers", "timestamps", "geo_points", "present")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KEYWORDS_FIELD_NUMBER: _ClassVar[int]
    KEYWORD_LISTS_FIELD_NUMBER: _ClassVar[int]
    BOOLEANS_FIELD_NUMBER: _ClassVar[int]
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMPS_FIELD_NUMBER: _ClassVar[int]
    GEO_POINTS_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    keywords: Keywords
    keyword_lists: KeywordLists
    booleans: bytes
    integers: bytes
    numbers: bytes
    timestamps: bytes
    geo_points: bytes
    present: bytes
    def __init__(self, name: _Optional[str] = ..., keywords: _Optional[_Union[Keywords, _Mapping]] = ..., keyword_lists: _Optional[_Union[KeywordLists, _Mapping]] = ..., booleans: _Optional[bytes] = ..., integers: _Optional[bytes] = ..., numbers: _Optional[bytes] = ..., timestamps: _Optional[bytes] = ..., geo_points: _Optional[bytes] = ..., present: _Optional[bytes] = ...) -> None: ...

class Keywords(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class KeywordLists(_message.Message):
    __slots__ = ("values", "counts")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, values: _Optional[_Iterable[str]] = ..., counts: _Optional[_Iterable[int]] = ...) -> None: ...

class UpsertColumnsRequest(_message.Message):
    __slots__ = ("collection", "ids", "vectors", "attributes", "visibility", "request_id")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    collection: str
    ids: _common_pb2.ItemIds
    vectors: _common_pb2.Tensor
    attributes: _containers.RepeatedCompositeFieldContainer[AttributeColumn]
    visibility: Visibility
    request_id: str
    def __init__(self, collection: _Optional[str] = ..., ids: _Optional[_Union[_common_pb2.ItemIds, _Mapping]] = ..., vectors: _Optional[_Union[_common_pb2.Tensor, _Mapping]] = ..., attributes: _Optional[_Iterable[_Union[AttributeColumn, _Mapping]]] = ..., visibility: _Optional[_Union[Visibility, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpsertColumnsResponse(_message.Message):
    __slots__ = ("sequence", "accepted", "errors", "request_id")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    accepted: int
    errors: _containers.RepeatedCompositeFieldContainer[ItemError]
    request_id: str
    def __init__(self, sequence: _Optional[int] = ..., accepted: _Optional[int] = ..., errors: _Optional[_Iterable[_Union[ItemError, _Mapping]]] = ..., request_id: _Optional[str] = ...) -> None: ...

class ItemUpdate(_message.Message):
    __slots__ = ("id", "attributes", "clear_attributes", "if_sequence", "visible_from", "expires_at")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _common_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_common_pb2.Value, _Mapping]] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    CLEAR_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    IF_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_FROM_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    id: _common_pb2.ItemId
    attributes: _containers.MessageMap[str, _common_pb2.Value]
    clear_attributes: _containers.RepeatedScalarFieldContainer[str]
    if_sequence: int
    visible_from: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[_Union[_common_pb2.ItemId, _Mapping]] = ..., attributes: _Optional[_Mapping[str, _common_pb2.Value]] = ..., clear_attributes: _Optional[_Iterable[str]] = ..., if_sequence: _Optional[int] = ..., visible_from: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class UpdateRequest(_message.Message):
    __slots__ = ("collection", "updates", "visibility", "request_id")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    collection: str
    updates: _containers.RepeatedCompositeFieldContainer[ItemUpdate]
    visibility: Visibility
    request_id: str
    def __init__(self, collection: _Optional[str] = ..., updates: _Optional[_Iterable[_Union[ItemUpdate, _Mapping]]] = ..., visibility: _Optional[_Union[Visibility, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpdateResponse(_message.Message):
    __slots__ = ("sequence", "accepted", "errors")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    accepted: int
    errors: _containers.RepeatedCompositeFieldContainer[ItemError]
    def __init__(self, sequence: _Optional[int] = ..., accepted: _Optional[int] = ..., errors: _Optional[_Iterable[_Union[ItemError, _Mapping]]] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("collection", "ids", "visibility", "request_id")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    collection: str
    ids: _common_pb2.ItemIds
    visibility: Visibility
    request_id: str
    def __init__(self, collection: _Optional[str] = ..., ids: _Optional[_Union[_common_pb2.ItemIds, _Mapping]] = ..., visibility: _Optional[_Union[Visibility, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteResponse(_message.Message):
    __slots__ = ("sequence", "deleted")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    deleted: int
    def __init__(self, sequence: _Optional[int] = ..., deleted: _Optional[int] = ...) -> None: ...

class DeleteByFilterRequest(_message.Message):
    __slots__ = ("collection", "filter", "everything", "visibility", "request_id")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    EVERYTHING_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    collection: str
    filter: _common_pb2.Filter
    everything: bool
    visibility: Visibility
    request_id: str
    def __init__(self, collection: _Optional[str] = ..., filter: _Optional[_Union[_common_pb2.Filter, _Mapping]] = ..., everything: bool = ..., visibility: _Optional[_Union[Visibility, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteByFilterResponse(_message.Message):
    __slots__ = ("sequence", "deleted")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    deleted: int
    def __init__(self, sequence: _Optional[int] = ..., deleted: _Optional[int] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("collection", "ids", "vectors")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    ids: _common_pb2.ItemIds
    vectors: bool
    def __init__(self, collection: _Optional[str] = ..., ids: _Optional[_Union[_common_pb2.ItemIds, _Mapping]] = ..., vectors: bool = ...) -> None: ...

class StoredItem(_message.Message):
    __slots__ = ("item", "sequence")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    item: _common_pb2.Item
    sequence: int
    def __init__(self, item: _Optional[_Union[_common_pb2.Item, _Mapping]] = ..., sequence: _Optional[int] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("items", "missing")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[StoredItem]
    missing: _common_pb2.ItemIds
    def __init__(self, items: _Optional[_Iterable[_Union[StoredItem, _Mapping]]] = ..., missing: _Optional[_Union[_common_pb2.ItemIds, _Mapping]] = ...) -> None: ...

class CountRequest(_message.Message):
    __slots__ = ("collection", "filter")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    filter: _common_pb2.Filter
    def __init__(self, collection: _Optional[str] = ..., filter: _Optional[_Union[_common_pb2.Filter, _Mapping]] = ...) -> None: ...

class CountResponse(_message.Message):
    __slots__ = ("count", "sequence")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    count: int
    sequence: int
    def __init__(self, count: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class ScrollRequest(_message.Message):
    __slots__ = ("collection", "filter", "page_size", "page_token", "vectors")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    filter: _common_pb2.Filter
    page_size: int
    page_token: str
    vectors: bool
    def __init__(self, collection: _Optional[str] = ..., filter: _Optional[_Union[_common_pb2.Filter, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., vectors: bool = ...) -> None: ...

class ScrollResponse(_message.Message):
    __slots__ = ("items", "next_page_token")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[StoredItem]
    next_page_token: str
    def __init__(self, items: _Optional[_Iterable[_Union[StoredItem, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
