"""How hits are chosen among the best items."""

from __future__ import annotations

from engine.selection import Diversity, GroupBy
from engine.v1 import retrieval_pb2


def group_by_from(message: retrieval_pb2.GroupBy) -> GroupBy:
    return GroupBy(message.attribute, message.per_group if message.HasField("per_group") else 1)


def group_by_to(group_by: GroupBy) -> retrieval_pb2.GroupBy:
    return retrieval_pb2.GroupBy(attribute=group_by.attribute, per_group=group_by.per_group)


def diversity_from(message: retrieval_pb2.Diversity) -> Diversity:
    return Diversity(message.relevance, message.candidates if message.HasField("candidates") else None)


def diversity_to(diversity: Diversity) -> retrieval_pb2.Diversity:
    return retrieval_pb2.Diversity(relevance=diversity.relevance, candidates=diversity.candidates)
