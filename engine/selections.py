"""What makes a choice of hits fit a schema. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.errors import InvalidArgument, LimitExceeded, UnknownAttribute
from engine.limits import Limits
from engine.selection import Diversity, Facet, GroupBy
from engine.types import AttributeSpec, AttributeType, Schema, SearchParams

_GROUPED = (AttributeType.KEYWORD, AttributeType.INT, AttributeType.BOOL)
_COUNTED = (AttributeType.KEYWORD, AttributeType.KEYWORD_LIST, AttributeType.BOOL, AttributeType.INT)
_LEAST_CANDIDATES = 100
_CANDIDATES_PER_HIT = 4


def check_group(group: GroupBy, schema: Schema, limits: Limits, field: str) -> None:
    """
    Raises:
        InvalidArgument: the first thing that is wrong with it.
        UnknownAttribute: the schema lacks the attribute.
    """
    _filterable(group.attribute, _GROUPED, schema, field)
    if group.per_group < 1:
        raise InvalidArgument(f"{field}.per_group", f"{group.per_group} is not at least 1")
    if group.per_group > limits.k:
        raise LimitExceeded(f"{field}.per_group", value=group.per_group, limit=limits.k, unit="hits")


def resolve_diversity(diversity: Diversity, k: int, limits: Limits, field: str) -> Diversity:
    """With the number of candidates.

    Raises:
        InvalidArgument: the first thing that is wrong with it.
    """
    if not 0 <= diversity.relevance <= 1:
        raise InvalidArgument(f"{field}.relevance", f"{diversity.relevance} is not in [0, 1]")
    most = limits.diversity_candidates
    candidates = diversity.candidates
    if candidates is None:
        candidates = max(k, min(most, max(_LEAST_CANDIDATES, _CANDIDATES_PER_HIT * k)))
    if candidates > most:
        raise LimitExceeded(f"{field}.candidates", value=candidates, limit=most, unit="candidates")
    if candidates < k:
        raise InvalidArgument(f"{field}.candidates", f"{candidates} are fewer than the {k} hits wanted")
    return replace(diversity, candidates=candidates)


def check_facets(facets: Sequence[Facet], schema: Schema, limits: Limits, field: str) -> None:
    """
    Raises:
        InvalidArgument: the first thing that is wrong with them.
        UnknownAttribute: the schema lacks an attribute.
    """
    if len(facets) > limits.facets:
        raise LimitExceeded(field, value=len(facets), limit=limits.facets, unit="facets")
    for place, facet in enumerate(facets):
        own = f"{field}[{place}]"
        _filterable(facet.attribute, _COUNTED, schema, own)
        if facet.limit < 1:
            raise InvalidArgument(f"{own}.limit", f"{facet.limit} is not at least 1")
        if facet.limit > limits.facet_values:
            raise LimitExceeded(f"{own}.limit", value=facet.limit, limit=limits.facet_values, unit="values")


def check_page(params: SearchParams, limits: Limits, field: str, *, seen: int) -> None:
    """``seen``: hits of the pages before.

    Raises:
        InvalidArgument: such a query has no pages, or there were too many.
    """
    if params.group_by is not None or params.diversity is not None:
        raise InvalidArgument(f"{field}.page", "goes neither with group_by nor with diversity")
    if seen + params.k > limits.paged_hits:
        raise LimitExceeded(f"{field}.k", value=seen + params.k, limit=limits.paged_hits, unit="hits of all pages")


def _filterable(name: str, wanted: tuple[AttributeType, ...], schema: Schema, field: str) -> AttributeSpec:
    spec = schema.attribute(name)
    if spec is None:
        raise UnknownAttribute(name)
    if spec.type not in wanted:
        kinds = " or ".join(kind.value for kind in wanted)
        raise InvalidArgument(f"{field}.attribute", f"{name!r} is a {spec.type.value}, not a {kinds}")
    if not spec.filterable or spec.volatile:
        raise InvalidArgument(f"{field}.attribute", f"{name!r} is not filterable")
    return spec
