"""Engine errors to ``google.rpc.Status`` and gRPC trailers (AIP-193)."""

from __future__ import annotations

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import code_pb2, error_details_pb2, status_pb2

from engine.convert import duration
from engine.errors import EngineError, QueueFull

DOMAIN = "ebr"
OK = status_pb2.Status(code=code_pb2.OK)
_TRAILER = "grpc-status-details-bin"
_MESSAGE_BYTES = 768
_VALUE_BYTES = 256
_VIOLATIONS = 4
"""Messages repeat what the caller sent, and gRPC drops trailers beyond 8 KiB: nobody would learn what was wrong."""


def status_of(error: EngineError) -> status_pb2.Status:
    """Code, message and details: ErrorInfo always, BadRequest and RetryInfo where they apply."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=_cut(error.message, _MESSAGE_BYTES))
    metadata = {name: _cut(value, _VALUE_BYTES) for name, value in error.metadata.items()}
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    _pack(status, info)
    if error.violations:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=_cut(one.field, _VALUE_BYTES), description=_cut(one.description, _VALUE_BYTES)
            )
            for one in error.violations[:_VIOLATIONS]
        ]
        _pack(status, error_details_pb2.BadRequest(field_violations=violations))
    if isinstance(error, QueueFull):
        _pack(status, error_details_pb2.RetryInfo(retry_delay=duration(error.retry_after_ms / 1000)))
    return status


def grpc_code(error: EngineError) -> grpc.StatusCode:
    code: grpc.StatusCode = grpc.StatusCode[error.code]
    return code


def trailers_of(status: status_pb2.Status) -> tuple[tuple[str, bytes], ...]:
    return ((_TRAILER, status.SerializeToString()),)


def _cut(text: str, n_bytes: int) -> str:
    """The text, or as much of its beginning as ``n_bytes`` of UTF-8 hold, with dots where something is left out."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= n_bytes:
        return encoded.decode()
    return f"{encoded[: n_bytes - 3].decode(errors='ignore')}..."


def _pack(status: status_pb2.Status, detail: object) -> None:
    packed = Any()
    packed.Pack(detail)  # type: ignore[arg-type]  # any message
    status.details.append(packed)
