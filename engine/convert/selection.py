"""How hits are chosen among the best items."""

from __future__ import annotations

from typing import cast

from engine.convert.items import value_from, value_to
from engine.convert.times import timestamp, timestamp_from
from engine.selection import Diversity, Facet, FacetCounts, GroupBy, RankFusion
from engine.types import NextPage
from engine.v1 import retrieval_pb2


def group_by_from(message: retrieval_pb2.GroupBy) -> GroupBy:
    return GroupBy(message.attribute, message.per_group if message.HasField("per_group") else 1)


def group_by_to(group_by: GroupBy) -> retrieval_pb2.GroupBy:
    return retrieval_pb2.GroupBy(attribute=group_by.attribute, per_group=group_by.per_group)


def diversity_from(message: retrieval_pb2.Diversity) -> Diversity:
    return Diversity(message.relevance, message.candidates if message.HasField("candidates") else None)


def diversity_to(diversity: Diversity) -> retrieval_pb2.Diversity:
    return retrieval_pb2.Diversity(relevance=diversity.relevance, candidates=diversity.candidates)


def rank_fusion_from(message: retrieval_pb2.RankFusion) -> RankFusion:
    given = {
        name: getattr(message, name) for name in ("constant", "depth", "dense", "lexical") if message.HasField(name)
    }
    return RankFusion(**given)


def rank_fusion_to(fusion: RankFusion) -> retrieval_pb2.RankFusion:
    return retrieval_pb2.RankFusion(
        constant=fusion.constant, depth=fusion.depth, dense=fusion.dense, lexical=fusion.lexical
    )


def facet_from(message: retrieval_pb2.Facet) -> Facet:
    return Facet(message.attribute, message.limit if message.HasField("limit") else 10)


def facet_to(facet: Facet) -> retrieval_pb2.Facet:
    return retrieval_pb2.Facet(attribute=facet.attribute, limit=facet.limit)


def facet_counts_from(message: retrieval_pb2.FacetCounts) -> FacetCounts:
    counts = tuple((value_from(one.value, message.attribute), one.count) for one in message.counts)
    return FacetCounts(message.attribute, cast("tuple[tuple[str | bool | int, int], ...]", counts))


def facet_counts_to(facet: FacetCounts) -> retrieval_pb2.FacetCounts:
    message = retrieval_pb2.FacetCounts(attribute=facet.attribute)
    for value, count in facet.counts:
        message.counts.add(value=value_to(value), count=count)
    return message


def next_page_from(message: retrieval_pb2.NextPage) -> NextPage | None:
    """None where no hits follow."""
    return NextPage(message.cursor, timestamp_from(message.cursor_expires_at)) if message.cursor else None


def next_page_to(page: NextPage | None) -> retrieval_pb2.NextPage:
    if page is None:
        return retrieval_pb2.NextPage()
    return retrieval_pb2.NextPage(cursor=page.cursor, cursor_expires_at=timestamp(page.cursor_expires_at.micros))
