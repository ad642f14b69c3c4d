"""Times and durations; micros are microseconds since 1970, UTC."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp as TimestampMessage

from engine import types


def duration(seconds: float) -> Duration:
    nanos = round(seconds * 1e9)
    if 0 <= nanos < 1_000_000_000:
        return Duration(nanos=nanos)
    return Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def seconds(message: Duration) -> float:
    return message.seconds + message.nanos / 1e9


def timestamp(micros: int) -> TimestampMessage:
    return TimestampMessage(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def timestamp_from(message: TimestampMessage) -> types.Timestamp:
    return types.Timestamp(message.seconds * 1_000_000 + message.nanos // 1000)
