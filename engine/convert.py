"""Wire messages to the engine's nouns and back; pure, shared by server and client. Knows nothing of gRPC.

Raises ``InvalidArgument`` naming the field for what a well-formed message can still get wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp as TimestampMessage

from engine import types
from engine.dtypes import to_float32
from engine.errors import InvalidArgument
from engine.types import AttributeType, Float32Array, ItemId
from engine.v1 import admin_pb2, common_pb2, ingest_pb2, retrieval_pb2

T = TypeVar("T")

_DTYPE_NAMES: dict[int, types.VectorDtype] = {
    common_pb2.DTYPE_UNSPECIFIED: "float32",
    common_pb2.DTYPE_FLOAT32: "float32",
    common_pb2.DTYPE_FLOAT16: "float16",
    common_pb2.DTYPE_BFLOAT16: "bfloat16",
}
DTYPE_VALUES: dict[str, common_pb2.Dtype] = {
    "float32": common_pb2.DTYPE_FLOAT32,
    "float16": common_pb2.DTYPE_FLOAT16,
    "bfloat16": common_pb2.DTYPE_BFLOAT16,
}
_WIRE_DTYPES: dict[types.VectorDtype, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
}
METRIC_VALUES: dict[str, common_pb2.Metric] = {
    "cosine": common_pb2.METRIC_COSINE,
    "dot": common_pb2.METRIC_DOT,
    "l2": common_pb2.METRIC_L2,
}
METRIC_NAMES: dict[int, types.Metric] = {
    common_pb2.METRIC_COSINE: "cosine",
    common_pb2.METRIC_DOT: "dot",
    common_pb2.METRIC_L2: "l2",
}
_ID_TYPES: dict[int, types.IdType] = {
    admin_pb2.ID_TYPE_UNSPECIFIED: "string",
    admin_pb2.ID_TYPE_STRING: "string",
    admin_pb2.ID_TYPE_UINT64: "uint64",
}
_TEXT_MODES: dict[int, Literal["joined", "weighted"]] = {
    admin_pb2.TEXT_MODE_UNSPECIFIED: "joined",
    admin_pb2.TEXT_MODE_JOINED: "joined",
    admin_pb2.TEXT_MODE_WEIGHTED: "weighted",
}
_ANALYSERS: dict[int, types.Analyser | None] = {
    admin_pb2.ANALYSER_UNSPECIFIED: None,
    admin_pb2.ANALYSER_ENGLISH: "english",
    admin_pb2.ANALYSER_PLAIN: "plain",
}
_ANALYSER_VALUES: dict[types.Analyser | None, admin_pb2.Analyser] = {
    None: admin_pb2.ANALYSER_UNSPECIFIED,
    "english": admin_pb2.ANALYSER_ENGLISH,
    "plain": admin_pb2.ANALYSER_PLAIN,
}
_STRATEGY_NAMES = {strategy: f"STRATEGY_{strategy.name}" for strategy in types.Strategy}
_STRATEGIES: dict[int, types.Strategy] = {
    retrieval_pb2.Strategy.Value(name): strategy for strategy, name in _STRATEGY_NAMES.items()
}
_ATTRIBUTE_TYPE_NAMES = {kind: f"ATTRIBUTE_TYPE_{kind.name}" for kind in AttributeType}
_ATTRIBUTE_TYPES: dict[int, AttributeType] = {
    admin_pb2.AttributeType.Value(name): kind for kind, name in _ATTRIBUTE_TYPE_NAMES.items()
}


# Numbers


def tensor_to_array(tensor: common_pb2.Tensor, field: str) -> Float32Array:
    """float32 [rows, dimension], NaN and all; not copied where the tensor is float32 already.

    Raises:
        InvalidArgument: the bytes do not make rows x dimension.
    """
    array = _decode(tensor.content, tensor.dtype, f"{field}.content")
    if array.size != tensor.rows * tensor.dimension:
        raise InvalidArgument(
            f"{field}.content",
            f"{len(tensor.content)} bytes hold {array.size} values, "
            f"rows x dimension is {tensor.rows} x {tensor.dimension}",
        )
    return array.reshape(tensor.rows, tensor.dimension)


def array_to_tensor(array: Float32Array) -> common_pb2.Tensor:
    """float32 [rows, d] to a tensor of float32 bytes."""
    rows, dimension = array.shape
    content = np.ascontiguousarray(array, np.dtype("<f4")).tobytes()
    return common_pb2.Tensor(content=content, rows=rows, dimension=dimension, dtype=common_pb2.DTYPE_FLOAT32)


def vector_to_array(vector: common_pb2.Vector, field: str) -> Float32Array:
    """float32 [d]."""
    form = vector.WhichOneof("form")
    if form == "floats":
        return np.array(vector.floats.values, dtype=np.float32)
    if form == "encoded":
        return _decode(vector.encoded.content, vector.encoded.dtype, f"{field}.encoded.content")
    raise InvalidArgument(field, "is empty: set floats or encoded")


def _decode(content: bytes, dtype: int, field: str) -> Float32Array:
    name = _DTYPE_NAMES.get(dtype)
    if name is None:
        raise InvalidArgument(field, f"unknown dtype {dtype}")
    wire = _WIRE_DTYPES[name]
    if len(content) % wire.itemsize:
        raise InvalidArgument(field, f"{len(content)} bytes are no whole number of {name} values")
    return to_float32(np.frombuffer(content, wire), name)


def duration(seconds: float) -> Duration:
    nanos = round(seconds * 1e9)
    if 0 <= nanos < 1_000_000_000:
        return Duration(nanos=nanos)
    return Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def seconds(message: Duration) -> float:
    return message.seconds + message.nanos / 1e9


def timestamp(micros: int) -> TimestampMessage:
    return TimestampMessage(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def _micros(message: TimestampMessage) -> types.Timestamp:
    return types.Timestamp(message.seconds * 1_000_000 + message.nanos // 1000)


# Ids


def item_id_from(message: common_pb2.ItemId, field: str) -> ItemId:
    kind = message.WhichOneof("kind")
    if kind == "number":
        return int(message.number)
    if kind == "text":
        return str(message.text)
    raise InvalidArgument(field, "is empty: set number or text")


def item_id_to(item_id: ItemId) -> common_pb2.ItemId:
    if isinstance(item_id, int):
        return common_pb2.ItemId(number=item_id)
    return common_pb2.ItemId(text=item_id)


def item_ids_from(message: common_pb2.ItemIds, field: str) -> tuple[ItemId, ...]:
    numbers = uint64_ids_from(message, field)
    if numbers.size and message.texts:
        raise InvalidArgument(field, "has numbers and texts: one collection's ids are of one kind")
    return tuple(numbers.tolist()) if numbers.size else tuple(message.texts)


def uint64_ids_from(message: common_pb2.ItemIds, field: str) -> npt.NDArray[np.uint64]:
    """The packed ids uint64 [n] as they came, without Python objects."""
    if len(message.numbers) % 8:
        raise InvalidArgument(f"{field}.numbers", f"{len(message.numbers)} bytes are no whole number of 8-byte ids")
    return np.frombuffer(message.numbers, np.dtype("<u8")).astype(np.uint64, copy=False)


def item_ids_to(ids: npt.NDArray[Any] | Sequence[ItemId]) -> common_pb2.ItemIds:
    """Ids of one kind: a uint64 array, or a sequence of ints or of strings."""
    if isinstance(ids, np.ndarray) and ids.dtype == np.uint64:
        return common_pb2.ItemIds(numbers=np.ascontiguousarray(ids, np.dtype("<u8")).tobytes())
    if len(ids) and isinstance(ids[0], int):
        return common_pb2.ItemIds(numbers=np.array(ids, np.dtype("<u8")).tobytes())
    return common_pb2.ItemIds(texts=[str(one) for one in ids])


# Items


def value_from(message: common_pb2.Value, field: str) -> types.AttributeValue | None:
    """None for a null value."""
    kind = message.WhichOneof("kind")
    match kind:
        case None:
            return None
        case "keywords":
            return tuple(message.keywords.values)
        case "timestamp":
            return _micros(message.timestamp)
        case "geo_point":
            return types.GeoPoint(message.geo_point.lat, message.geo_point.lon)
    plain: types.AttributeValue = getattr(message, kind)
    return plain


def value_to(value: types.AttributeValue) -> common_pb2.Value:
    match value:
        case bool():
            return common_pb2.Value(boolean=value)
        case str():
            return common_pb2.Value(keyword=value)
        case int():
            return common_pb2.Value(integer=value)
        case float():
            return common_pb2.Value(number=value)
        case types.Timestamp(micros):
            return common_pb2.Value(timestamp=timestamp(micros))
        case types.GeoPoint(lat, lon):
            return common_pb2.Value(geo_point=common_pb2.GeoPoint(lat=lat, lon=lon))
        case _:
            return common_pb2.Value(keywords=common_pb2.KeywordList(values=value))


def item_from(message: common_pb2.Item, field: str) -> types.Item:
    attributes = {
        name: value
        for name, wire in message.attributes.items()
        if (value := value_from(wire, f"{field}.attributes[{name}]")) is not None
    }
    vector = tensor_to_array(message.vectors, f"{field}.vectors") if message.HasField("vectors") else None
    sequence = message.if_sequence if message.HasField("if_sequence") else None
    item_id = item_id_from(message.id, f"{field}.id")
    return types.Item(item_id, dict(message.text), attributes, vector, sequence, _times_from(message))


def item_to(item: types.Item) -> common_pb2.Item:
    message = common_pb2.Item(
        id=item_id_to(item.id),
        text=dict(item.text),
        attributes={name: value_to(value) for name, value in item.attributes.items()},
    )
    if item.vector is not None:
        message.vectors.CopyFrom(array_to_tensor(np.atleast_2d(item.vector)))
    if item.if_sequence is not None:
        message.if_sequence = item.if_sequence
    _put_times(message, item.times)
    return message


def _times_from(message: common_pb2.Item | ingest_pb2.ItemUpdate) -> types.Times:
    if not message.HasField("visible_from") and not message.HasField("expires_at"):
        return types.ALWAYS
    given = {name: _micros(getattr(message, name)) for name in ("visible_from", "expires_at") if message.HasField(name)}
    return types.Times(**given)


def _put_times(message: common_pb2.Item | ingest_pb2.ItemUpdate, times: types.Times) -> None:
    if times.visible_from is not None:
        message.visible_from.CopyFrom(timestamp(times.visible_from.micros))
    if times.expires_at is not None:
        message.expires_at.CopyFrom(timestamp(times.expires_at.micros))


def update_from(message: ingest_pb2.ItemUpdate, field: str) -> types.ItemUpdate:
    """Values that are null are cleared."""
    values = {name: value_from(wire, f"{field}.attributes[{name}]") for name, wire in message.attributes.items()}
    return types.ItemUpdate(
        item_id_from(message.id, f"{field}.id"),
        {name: value for name, value in values.items() if value is not None},
        (*message.clear_attributes, *(name for name, value in values.items() if value is None)),
        message.if_sequence if message.HasField("if_sequence") else None,
        _times_from(message),
    )


def update_to(update: types.ItemUpdate) -> ingest_pb2.ItemUpdate:
    message = ingest_pb2.ItemUpdate(
        id=item_id_to(update.id),
        attributes={name: value_to(value) for name, value in update.attributes.items()},
        clear_attributes=update.clear,
    )
    if update.if_sequence is not None:
        message.if_sequence = update.if_sequence
    _put_times(message, update.times)
    return message


def stored_item_from(item: common_pb2.Item, sequence: int) -> types.StoredItem:
    plain = item_from(item, "item")
    return types.StoredItem(plain.id, sequence, plain.text, plain.attributes, plain.vector, plain.times)


# Filters


def filter_from(message: common_pb2.Filter, field: str = "filter") -> types.Filter:
    return types.Filter(
        must=_conditions_from(message.must, f"{field}.must"),
        should=_conditions_from(message.should, f"{field}.should"),
        must_not=_conditions_from(message.must_not, f"{field}.must_not"),
        min_should=message.min_should if message.HasField("min_should") else None,
    )


def _conditions_from(messages: Iterable[common_pb2.Condition], field: str) -> tuple[types.Condition, ...]:
    return tuple(_condition_from(message, f"{field}[{i}]") for i, message in enumerate(messages))


def _condition_from(message: common_pb2.Condition, field: str) -> types.Condition:
    match message.WhichOneof("kind"):
        case "match":
            return _match_from(message.match, f"{field}.match")
        case "range":
            return _range_from(message.range, f"{field}.range")
        case "geo_radius":
            geo = message.geo_radius
            return types.GeoRadius(geo.attribute, types.GeoPoint(geo.center.lat, geo.center.lon), geo.radius_m)
        case "has_id":
            return types.HasId(item_ids_from(message.has_id.ids, f"{field}.has_id.ids"))
        case "is_null":
            return types.IsNull(message.is_null.attribute)
        case "filter":
            return filter_from(message.filter, f"{field}.filter")
    raise InvalidArgument(field, "is empty: set one kind of condition")


def _match_from(message: common_pb2.Match, field: str) -> types.Match:
    if message.HasField("any_of") == message.HasField("except_any"):
        raise InvalidArgument(field, "set exactly one of any_of and except_any")
    which = "any_of" if message.HasField("any_of") else "except_any"
    values = getattr(message, which)
    kinds: list[tuple[str | int | bool, ...]] = [
        tuple(kind) for kind in (values.keywords, values.integers, values.booleans) if kind
    ]
    if len(kinds) != 1:
        raise InvalidArgument(f"{field}.{which}", "give values, all of one kind")
    if which == "any_of":
        return types.Match(message.attribute, any_of=kinds[0])
    return types.Match(message.attribute, except_=kinds[0])


def _range_from(message: common_pb2.Range, field: str) -> types.Range:
    bounds = {
        name: _bound_from(getattr(message, name), f"{field}.{name}")
        for name in ("gt", "gte", "lt", "lte")
        if message.HasField(name)
    }
    return types.Range(message.attribute, **bounds)


def _bound_from(message: common_pb2.Bound, field: str) -> int | float | types.Timestamp:
    match message.WhichOneof("kind"):
        case "integer":
            return int(message.integer)
        case "number":
            return float(message.number)
        case "timestamp":
            return _micros(message.timestamp)
    raise InvalidArgument(field, "is empty: set integer, number or timestamp")


def filter_to(tree: types.Filter) -> common_pb2.Filter:
    return common_pb2.Filter(
        must=[_condition_to(one) for one in tree.must],
        should=[_condition_to(one) for one in tree.should],
        must_not=[_condition_to(one) for one in tree.must_not],
        min_should=tree.min_should,
    )


def _condition_to(condition: types.Condition) -> common_pb2.Condition:
    match condition:
        case types.Match():
            return common_pb2.Condition(match=_match_to(condition))
        case types.Range():
            return common_pb2.Condition(range=_range_to(condition))
        case types.GeoRadius(attribute, center, radius_m):
            point = common_pb2.GeoPoint(lat=center.lat, lon=center.lon)
            return common_pb2.Condition(
                geo_radius=common_pb2.GeoRadius(attribute=attribute, center=point, radius_m=radius_m)
            )
        case types.HasId(ids):
            return common_pb2.Condition(has_id=common_pb2.HasId(ids=item_ids_to(ids)))
        case types.IsNull(attribute):
            return common_pb2.Condition(is_null=common_pb2.IsNull(attribute=attribute))
        case types.Filter():
            return common_pb2.Condition(filter=filter_to(condition))


def _match_to(condition: types.Match) -> common_pb2.Match:
    values = condition.any_of or condition.except_
    message = common_pb2.MatchValues()
    if values and isinstance(values[0], bool):
        message.booleans.extend(bool(value) for value in values)
    elif values and isinstance(values[0], int):
        message.integers.extend(int(value) for value in values)
    else:
        message.keywords.extend(str(value) for value in values)
    if condition.except_:
        return common_pb2.Match(attribute=condition.attribute, except_any=message)
    return common_pb2.Match(attribute=condition.attribute, any_of=message)


def _range_to(condition: types.Range) -> common_pb2.Range:
    message = common_pb2.Range(attribute=condition.attribute)
    for name in ("gt", "gte", "lt", "lte"):
        bound = getattr(condition, name)
        match bound:
            case None:
                continue
            case types.Timestamp(micros):
                getattr(message, name).timestamp.CopyFrom(timestamp(micros))
            case int():
                getattr(message, name).integer = bound
            case _:
                getattr(message, name).number = bound
    return message


# Search


def params_from(message: retrieval_pb2.SearchParams, field: str) -> types.SearchParams:
    if message.strategy not in _STRATEGIES and message.strategy != retrieval_pb2.STRATEGY_UNSPECIFIED:
        raise InvalidArgument(f"{field}.strategy", f"unknown strategy {message.strategy}")
    return types.SearchParams(
        k=message.k if message.HasField("k") else 10,
        filter=filter_from(message.filter, f"{field}.filter") if message.HasField("filter") else types.Filter(),
        exclude_ids=_excluded(message.exclude_ids, f"{field}.exclude_ids") if message.HasField("exclude_ids") else (),
        exact=message.exact,
        recall_target=message.recall_target if message.HasField("recall_target") else None,
        nprobe=message.nprobe if message.HasField("nprobe") else None,
        rescore_depth=message.rescore_depth if message.HasField("rescore_depth") else None,
        strategy=_STRATEGIES.get(message.strategy),
    )


def _excluded(message: common_pb2.ItemIds, field: str) -> tuple[ItemId, ...] | npt.NDArray[np.uint64]:
    numbers = uint64_ids_from(message, field)
    if numbers.size and message.texts:
        raise InvalidArgument(field, "has numbers and texts: one collection's ids are of one kind")
    return numbers if numbers.size else tuple(message.texts)


def params_to(params: types.SearchParams) -> retrieval_pb2.SearchParams:
    message = retrieval_pb2.SearchParams(
        k=params.k,
        exact=params.exact,
        recall_target=params.recall_target,
        nprobe=params.nprobe,
        rescore_depth=params.rescore_depth,
        strategy=_STRATEGY_NAMES[params.strategy] if params.strategy else None,
    )
    if not params.filter.is_empty():
        message.filter.CopyFrom(filter_to(params.filter))
    if len(params.exclude_ids):
        message.exclude_ids.CopyFrom(item_ids_to(params.exclude_ids))
    return message


def explanation_to(explanation: types.Explanation) -> retrieval_pb2.Explanation:
    times = explanation.times
    return retrieval_pb2.Explanation(
        strategy=_STRATEGY_NAMES[explanation.strategy],
        index_version=explanation.index_version,
        encoder_version=explanation.encoder_version,
        selectivity=explanation.selectivity,
        selectivity_exact=explanation.selectivity_exact,
        nprobe=explanation.nprobe,
        lists_scanned=explanation.lists_scanned,
        rows_scanned=explanation.rows_scanned,
        rescored=explanation.rescored,
        expected_recall=explanation.expected_recall,
        second_pass=explanation.second_pass,
        device=explanation.device,
        score_dtype=DTYPE_VALUES[explanation.score_dtype],
        batch_size=explanation.batch_size,
        partial=explanation.partial,
        truncated_tokens=explanation.truncated_tokens,
        sequence=explanation.sequence,
        expected_recall_provisional=explanation.expected_recall_provisional,
        times=retrieval_pb2.StageTimes(
            queue=duration(times.queue),
            encode=duration(times.encode),
            filter=duration(times.filter),
            search=duration(times.search),
            fuse=duration(times.fuse),
        ),
    )


def explanation_from(message: retrieval_pb2.Explanation) -> types.Explanation:
    times = message.times
    return types.Explanation(
        strategy=_STRATEGIES.get(message.strategy, types.Strategy.NONE),
        index_version=message.index_version,
        encoder_version=message.encoder_version,
        selectivity=message.selectivity,
        selectivity_exact=message.selectivity_exact,
        nprobe=message.nprobe,
        lists_scanned=message.lists_scanned,
        rows_scanned=message.rows_scanned,
        rescored=message.rescored,
        expected_recall=message.expected_recall,
        second_pass=message.second_pass,
        device=message.device,
        score_dtype=_DTYPE_NAMES[message.score_dtype],
        batch_size=message.batch_size,
        partial=message.partial,
        truncated_tokens=message.truncated_tokens,
        sequence=message.sequence,
        times=types.StageTimes(
            seconds(times.queue),
            seconds(times.encode),
            seconds(times.filter),
            seconds(times.search),
            seconds(times.fuse),
        ),
        expected_recall_provisional=message.expected_recall_provisional,
    )


def explanations_to(explanations: Sequence[types.Explanation]) -> list[retrieval_pb2.Explanation]:
    """One message for each; one that stands for several queries is made once."""
    made = {id(one): one for one in explanations}
    messages = {key: explanation_to(one) for key, one in made.items()}
    return [messages[id(one)] for one in explanations]


def add_hits(response: retrieval_pb2.SearchResponse, ids: npt.NDArray[Any], scores: Float32Array) -> None:
    """Hits of ids and scores alone; several times quicker than ``hit_to`` of each."""
    is_number = ids.dtype == np.uint64
    for item_id, score in zip(ids.tolist(), scores.tolist(), strict=True):
        hit = response.hits.add(score=score)
        if is_number:
            hit.id.number = item_id
        else:
            hit.id.text = item_id


def hit_to(hit: types.Hit) -> retrieval_pb2.Hit:
    message = retrieval_pb2.Hit(
        id=item_id_to(hit.id),
        score=hit.score,
        attributes={name: value_to(value) for name, value in hit.attributes.items()},
        text=dict(hit.text),
    )
    if hit.vector is not None:
        message.vectors.CopyFrom(array_to_tensor(np.atleast_2d(hit.vector)))
    return message


def hit_from(message: retrieval_pb2.Hit) -> types.Hit:
    attributes = _attributes_from(message.attributes)
    vector = tensor_to_array(message.vectors, "vectors") if message.HasField("vectors") else None
    return types.Hit(item_id_from(message.id, "id"), message.score, attributes, dict(message.text), vector)


def _attributes_from(wire: Mapping[str, common_pb2.Value]) -> dict[str, types.AttributeValue]:
    values = {name: value_from(value, name) for name, value in wire.items()}
    return {name: value for name, value in values.items() if value is not None}


# Schemas


def attribute_from(message: admin_pb2.AttributeSpec, field: str) -> types.AttributeSpec:
    if message.type not in _ATTRIBUTE_TYPES:
        raise InvalidArgument(f"{field}.type", "give the attribute's type")
    return types.AttributeSpec(
        name=message.name,
        type=_ATTRIBUTE_TYPES[message.type],
        stored=message.stored if message.HasField("stored") else True,
        filterable=message.filterable if message.HasField("filterable") else not message.volatile,
        volatile=message.volatile,
    )


def attribute_to(spec: types.AttributeSpec) -> admin_pb2.AttributeSpec:
    return admin_pb2.AttributeSpec(
        name=spec.name,
        type=_ATTRIBUTE_TYPE_NAMES[spec.type],
        stored=spec.stored,
        filterable=spec.filterable,
        volatile=spec.volatile,
    )


def schema_from(message: admin_pb2.Schema, field: str) -> types.Schema:
    """The schema as asked for; cosine where no metric is given."""
    return types.Schema(
        name=message.name,
        id_type=_known(_ID_TYPES, message.id_type, f"{field}.id_type"),
        metric=_known({**METRIC_NAMES, common_pb2.METRIC_UNSPECIFIED: "cosine"}, message.metric, f"{field}.metric"),
        dtype=_known({**_DTYPE_NAMES, common_pb2.DTYPE_UNSPECIFIED: "float16"}, message.dtype, f"{field}.dtype"),
        encoder=message.encoder or None,
        dimension=message.dimension or None,
        text_fields=tuple(
            _text_field_from(one, f"{field}.text_fields[{i}]") for i, one in enumerate(message.text_fields)
        ),
        text_mode=_known(_TEXT_MODES, message.text_mode, f"{field}.text_mode"),
        chunk=message.chunk or 1,
        attributes=tuple(attribute_from(one, f"{field}.attributes[{i}]") for i, one in enumerate(message.attributes)),
        **{name: getattr(message, name) for name in ("bm25_k1", "bm25_b") if message.HasField(name)},
    )


def _text_field_from(message: admin_pb2.TextField, field: str) -> types.TextField:
    return types.TextField(
        message.name,
        message.order,
        message.weight if message.HasField("weight") else 1.0,
        _known(_ANALYSERS, message.analyser, f"{field}.analyser"),
        message.lexical_weight if message.HasField("lexical_weight") else 1.0,
    )


def _known(names: Mapping[int, T], value: int, field: str) -> T:
    """What an enum's number stands for; one of a newer client's must not be taken for the default."""
    if value not in names:
        raise InvalidArgument(field, f"unknown value {value}")
    return names[value]


def schema_to(schema: types.Schema) -> admin_pb2.Schema:
    return admin_pb2.Schema(
        name=schema.name,
        id_type=admin_pb2.ID_TYPE_UINT64 if schema.id_type == "uint64" else admin_pb2.ID_TYPE_STRING,
        metric=METRIC_VALUES[schema.metric],
        dtype=DTYPE_VALUES[schema.dtype],
        encoder=schema.encoder or "",
        dimension=schema.dimension or 0,
        text_fields=[_text_field_to(one) for one in schema.text_fields],
        text_mode=(admin_pb2.TEXT_MODE_WEIGHTED if schema.text_mode == "weighted" else admin_pb2.TEXT_MODE_JOINED),
        chunk=schema.chunk,
        attributes=[attribute_to(one) for one in schema.attributes],
        bm25_k1=schema.bm25_k1,
        bm25_b=schema.bm25_b,
    )


def _text_field_to(field: types.TextField) -> admin_pb2.TextField:
    return admin_pb2.TextField(
        name=field.name,
        order=field.order,
        weight=field.weight,
        analyser=_ANALYSER_VALUES[field.analyser],
        lexical_weight=field.lexical_weight,
    )
