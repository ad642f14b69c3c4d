"""The limits a server publishes and enforces. Plain numbers, free of any library: client and server share them."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused beyond, with an error that names the limit; ``message_bytes`` is enforced by gRPC itself.

    ``k``: hits a query. ``batch_queries``: queries a call, times objectives. ``filter_depth``: nesting of a filter.
    ``filter_conditions``: conditions of a filter in all. ``exclude_ids``: ids a query leaves out. ``text_bytes``: UTF-8
    bytes of one text. ``item_bytes``: an item with its texts, attributes and vectors. ``upsert_items``: items a call
    that writes them, ids a call that deletes. ``page_size``: items a page. ``message_bytes``: one request.
    ``reply_hits``: k x queries of one call. ``dimension``: of a vector. ``attributes``: of a schema. ``chunk``:
    embeddings an item. ``scoring_terms``: of one query's score. ``overlap_values``: keywords of one term.
    ``profiles``: of a schema.
    ``diversity_candidates``: items among which a query's hits are picked. ``examples``: of one query.
    ``paged_hits``: of all pages of a query. ``facets``: of one query. ``facet_values``: told of one facet.
    """

    k: int = 100_000
    batch_queries: int = 4096
    filter_depth: int = 16
    filter_conditions: int = 1024
    exclude_ids: int = 100_000
    text_bytes: int = 2 * MIB
    item_bytes: int = 4 * MIB
    upsert_items: int = 10_000
    page_size: int = 10_000
    message_bytes: int = 64 * MIB
    reply_hits: int = 4_000_000
    dimension: int = 8192
    attributes: int = 256
    chunk: int = 64
    scoring_terms: int = 64
    overlap_values: int = 1024
    profiles: int = 64
    diversity_candidates: int = 1000
    examples: int = 1024
    paged_hits: int = 10_000
    facets: int = 16
    facet_values: int = 1000
