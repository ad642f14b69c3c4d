"""How hits are chosen among the best items."""

from __future__ import annotations

from engine.selection import GroupBy
from engine.v1 import retrieval_pb2


def group_by_from(message: retrieval_pb2.GroupBy) -> GroupBy:
    return GroupBy(message.attribute, message.per_group if message.HasField("per_group") else 1)


def group_by_to(group_by: GroupBy) -> retrieval_pb2.GroupBy:
    return retrieval_pb2.GroupBy(attribute=group_by.attribute, per_group=group_by.per_group)
