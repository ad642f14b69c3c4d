"""The error tree: every way a request can fail, each with one class, one reason and one gRPC code.

Knows nothing of gRPC itself: ``code`` is the canonical name, which ``engine.rpc`` turns into a status.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that is wrong, as ``google.rpc.BadRequest`` tells it."""

    field: str
    description: str


class EngineError(Exception):
    """Base of all errors the engine raises on purpose.

    ``code`` is the canonical gRPC status name, ``reason`` the stable upper-snake identifier a client may switch on,
    ``metadata`` the values a client may want to read by machine.
    """

    code: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, violations: Sequence[FieldViolation] = (), **metadata: object) -> None:
        super().__init__(message)
        self.message = message
        self.violations = tuple(violations)
        self.metadata = {name: str(value) for name, value in metadata.items()}


class InvalidArgument(EngineError):
    """A field of the request is wrong whatever the state of the server; ``field`` is its path in the request."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_FIELD"

    def __init__(self, field: str, description: str, **metadata: object) -> None:
        super().__init__(f"{field}: {description}", violations=[FieldViolation(field, description)])
        self.field = field
        self.metadata = {name: str(value) for name, value in {"field": field, **metadata}.items()}


class LimitExceeded(InvalidArgument):
    """A value lies beyond a published limit."""

    reason = "LIMIT_EXCEEDED"

    def __init__(self, field: str, *, value: object, limit: object, unit: str = "") -> None:
        suffix = f" {unit}" if unit else ""
        super().__init__(field, f"{value} is beyond the limit of {limit}{suffix}", value=value, limit=limit)


class Undecodable(InvalidArgument):
    """The bytes of the request are not a message of the expected type, or nest deeper than the parser goes."""

    reason = "UNDECODABLE"


class NotFound(EngineError):
    """Base of what does not exist."""

    code = "NOT_FOUND"
    reason = "NOT_FOUND"


class CollectionNotFound(NotFound):
    reason = "COLLECTION_NOT_FOUND"

    def __init__(self, collection: str) -> None:
        super().__init__(f"no collection named {collection!r}", collection=collection)


class VersionNotFound(NotFound):
    reason = "VERSION_NOT_FOUND"

    def __init__(self, collection: str, version: str) -> None:
        super().__init__(
            f"collection {collection!r} has no version {version!r}", collection=collection, version=version
        )


class ItemNotFound(NotFound):
    reason = "ITEM_NOT_FOUND"

    def __init__(self, item_id: object) -> None:
        super().__init__(f"no item with id {item_id!r}", id=item_id)


class OperationNotFound(NotFound):
    reason = "OPERATION_NOT_FOUND"

    def __init__(self, operation: str) -> None:
        super().__init__(f"no operation named {operation!r}, or it ended long ago", operation=operation)


class SnapshotNotFound(NotFound):
    reason = "SNAPSHOT_NOT_FOUND"

    def __init__(self, snapshot: str) -> None:
        super().__init__(f"no snapshot {snapshot!r}", snapshot=snapshot)


class CollectionExists(EngineError):
    code = "ALREADY_EXISTS"
    reason = "COLLECTION_EXISTS"

    def __init__(self, collection: str) -> None:
        super().__init__(f"a collection named {collection!r} exists already", collection=collection)


class SequenceMismatch(EngineError):
    """Of one item: someone else wrote it meanwhile. ``found``: its sequence number, 0 where it is not there."""

    code = "ABORTED"
    reason = "SEQUENCE_MISMATCH"

    def __init__(self, item_id: object, *, wanted: int, found: int) -> None:
        told = f"is of sequence {found}" if found else "is not there"
        super().__init__(
            f"item {item_id!r} {told}, and was to be written only if "
            + (f"of sequence {wanted}" if wanted else "not there"),
            id=item_id,
            wanted=wanted,
            found=found,
        )


class FailedPrecondition(EngineError):
    """The request is well formed, but not for this collection as it is."""

    code = "FAILED_PRECONDITION"
    reason = "FAILED_PRECONDITION"


class UnknownAttribute(FailedPrecondition):
    """A filter names an attribute that the schema lacks or that is not filterable."""

    reason = "UNKNOWN_ATTRIBUTE"

    def __init__(self, attribute: str, why: str = "the schema has no such attribute") -> None:
        super().__init__(f"cannot filter on {attribute!r}: {why}", attribute=attribute)


class VersionMismatch(FailedPrecondition):
    """The encoder at hand is not the one the index was built with."""

    reason = "VERSION_MISMATCH"


class CursorLapsed(FailedPrecondition):
    """The moment that a cursor is of is kept no longer: begin again with the first page."""

    reason = "CURSOR_LAPSED"


class NoEncoder(FailedPrecondition):
    """A text query to a collection whose vectors come from its callers."""

    reason = "NO_ENCODER"


class NoAnalyser(FailedPrecondition):
    """Terms were searched in a collection that has no text field with an analyser."""

    reason = "NO_ANALYSER"

    def __init__(self, collection: str) -> None:
        super().__init__(
            f"collection {collection!r} has no text field with an analyser, which a schema gives it: "
            "it is not searched by terms",
            collection=collection,
        )


class NoPipeline(FailedPrecondition):
    """Hits were to be ranked in a collection that has no pipeline."""

    reason = "NO_PIPELINE"

    def __init__(self, collection: str) -> None:
        super().__init__(f"collection {collection!r} has no pipeline: nothing ranks its hits", collection=collection)


class ChangesGone(EngineError):
    """Changes are asked for that the change log has no longer; what is there now has to be read whole."""

    code = "OUT_OF_RANGE"
    reason = "CHANGES_GONE"

    def __init__(self, sequence: int, *, first: int) -> None:
        super().__init__(
            f"changes after sequence {sequence} are asked for, the change log begins with {first}",
            sequence=sequence,
            first=first,
        )


class QueueFull(EngineError):
    """Admission refused the request before any work; ``retry_after_ms`` says when to try again."""

    code = "RESOURCE_EXHAUSTED"
    reason = "QUEUE_FULL"

    def __init__(self, message: str, *, retry_after_ms: int, **metadata: object) -> None:
        super().__init__(message)
        self.metadata = {name: str(value) for name, value in {"retry_after_ms": retry_after_ms, **metadata}.items()}
        self.retry_after_ms = retry_after_ms


class DeviceOutOfMemory(EngineError):
    code = "RESOURCE_EXHAUSTED"
    reason = "DEVICE_OUT_OF_MEMORY"


class DeadlineExceeded(EngineError):
    """The caller's deadline passed before the work was done, in the queue too."""

    code = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class Cancelled(EngineError):
    """The caller went away; what it asked for was not computed."""

    code = "CANCELLED"
    reason = "CANCELLED"


class Unavailable(EngineError):
    """The server cannot answer now and may later."""

    code = "UNAVAILABLE"
    reason = "UNAVAILABLE"


class Loading(Unavailable):
    reason = "LOADING"


class Draining(Unavailable):
    reason = "DRAINING"


class DeviceLost(Unavailable):
    """The GPU failed while it served; as ``device_lost`` is set, the CPU answers the next try or nobody does."""

    reason = "DEVICE_LOST"


class ReadOnly(Unavailable):
    """Writes are refused after a storage fault; searches go on."""

    reason = "READ_ONLY"


class Unimplemented(EngineError):
    code = "UNIMPLEMENTED"
    reason = "UNIMPLEMENTED"


class EncodeFailed(EngineError):
    """The encoder raised: every text of that batch fails with this, the next batch works."""

    reason = "ENCODE_FAILED"


class SearchFailed(EngineError):
    """The search lane raised on a batch: every query of that batch fails with this, the next batch works."""

    reason = "SEARCH_FAILED"


class RankFailed(EngineError):
    """The ranker raised: every query of that batch keeps its fused order, and no caller sees this."""

    reason = "RANK_FAILED"


class WriteFailed(EngineError):
    """The commit lane raised on a group: none of it was written, the next group works."""

    reason = "WRITE_FAILED"


class TrainingFailed(EngineError):
    """The child that trains an index failed; searches go on as before."""

    reason = "TRAINING_FAILED"


class OperationFailed(EngineError):
    """A long-running operation raised what is no error of ours; everything is as it was before it."""

    reason = "OPERATION_FAILED"


class CorruptData(EngineError):
    """What lies on disk is not what was written there."""

    code = "DATA_LOSS"
    reason = "CORRUPT_DATA"


class ConfigError(EngineError):
    """A setting, schema file or model folder is unusable; raised at start, before a port opens."""

    code = "FAILED_PRECONDITION"
    reason = "CONFIG"


def from_wire(code: str, reason: str, message: str, metadata: dict[str, str]) -> EngineError:
    """The error a server sent, as an instance of the class that has its reason, or the first that has its code."""
    classes = list(_all_classes(EngineError))
    cls = next(
        (cls for cls in classes if cls.reason == reason and cls.code == code),
        next((cls for cls in classes if cls.code == code), EngineError),
    )
    error = cls.__new__(cls)
    EngineError.__init__(error, message)
    error.metadata = dict(metadata)
    if isinstance(error, InvalidArgument):
        error.field = metadata.get("field", "")
        error.violations = (FieldViolation(error.field, message),)
    if isinstance(error, QueueFull):
        error.retry_after_ms = int(metadata.get("retry_after_ms", "0"))
    return error


def _all_classes(cls: type[EngineError]) -> Iterator[type[EngineError]]:
    yield cls
    for below in cls.__subclasses__():
        yield from _all_classes(below)
