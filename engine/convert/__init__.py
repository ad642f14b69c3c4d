"""Wire messages to the engine's nouns and back; pure, shared by server and client. Knows nothing of gRPC.

Raises ``InvalidArgument`` naming the field for what a well-formed message can still get wrong.
"""

from __future__ import annotations

from engine.convert.examples import examples_from, examples_to
from engine.convert.filters import filter_from, filter_to
from engine.convert.ids import item_id_from, item_id_to, item_ids_from, item_ids_to, uint64_ids_from
from engine.convert.items import item_from, item_to, stored_item_from, update_from, update_to, value_from, value_to
from engine.convert.pipelines import pipeline_from, pipeline_to
from engine.convert.schemas import METRIC_VALUES, attribute_from, attribute_to, schema_from, schema_to
from engine.convert.scoring import profile_from, profile_to, scoring_from, scoring_to
from engine.convert.searches import (
    add_hits,
    add_legs,
    explanation_from,
    explanation_to,
    explanations_to,
    hit_from,
    hit_to,
    leg_column_from,
    leg_column_to,
    params_from,
    params_to,
    rank_fallback_from,
    rank_fallback_to,
)
from engine.convert.selection import facet_counts_from, facet_counts_to, next_page_from, next_page_to
from engine.convert.tensors import DTYPE_VALUES, array_to_tensor, tensor_to_array, vector_to_array
from engine.convert.times import duration, seconds, timestamp

__all__ = [
    "DTYPE_VALUES",
    "METRIC_VALUES",
    "add_hits",
    "add_legs",
    "array_to_tensor",
    "attribute_from",
    "attribute_to",
    "duration",
    "examples_from",
    "examples_to",
    "explanation_from",
    "explanation_to",
    "explanations_to",
    "facet_counts_from",
    "facet_counts_to",
    "filter_from",
    "filter_to",
    "hit_from",
    "hit_to",
    "item_from",
    "item_id_from",
    "item_id_to",
    "item_ids_from",
    "item_ids_to",
    "item_to",
    "leg_column_from",
    "leg_column_to",
    "next_page_from",
    "next_page_to",
    "params_from",
    "params_to",
    "pipeline_from",
    "pipeline_to",
    "profile_from",
    "profile_to",
    "rank_fallback_from",
    "rank_fallback_to",
    "schema_from",
    "schema_to",
    "scoring_from",
    "scoring_to",
    "seconds",
    "stored_item_from",
    "tensor_to_array",
    "timestamp",
    "uint64_ids_from",
    "update_from",
    "update_to",
    "value_from",
    "value_to",
    "vector_to_array",
]
