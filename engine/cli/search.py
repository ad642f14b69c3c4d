"""`ebr search`: one query, its hits as a table or as JSON, and what was done to find them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from engine.cli import output, session
from engine.cli import search_options as options
from engine.errors import InvalidArgument
from engine.scoring import Mode, Scoring
from engine.selection import GroupBy
from engine.types import Examples, Float32Array, Schema, SearchParams

if TYPE_CHECKING:
    from engine.client import RetrievalClient, SimilarTo

Query = str | Float32Array | Examples

app = typer.Typer(add_completion=False)


class _Mode(StrEnum):
    """As ``engine.scoring.Mode``."""

    DENSE = "dense"
    LEXICAL = "lexical"
    HYBRID = "hybrid"


_MODES: dict[_Mode | None, Mode | None] = {
    None: None,
    _Mode.DENSE: "dense",
    _Mode.LEXICAL: "lexical",
    _Mode.HYBRID: "hybrid",
}


@app.command()
def search(
    collection: session.CollectionOption,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for.")] = "",
    filter: session.FilterOption = "",
    like: options.LikeOption = None,
    unlike: options.UnlikeOption = None,
    vector_file: Annotated[
        Path | None, typer.Option("--vector-file", metavar="FILE", help="A vector: .npy, a JSON list, or numbers.")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Hits wanted.")] = 10,
    exact: Annotated[bool, typer.Option("--exact", help="The true best k, whatever it costs.")] = False,
    recall_target: Annotated[
        float | None, typer.Option("--recall-target", help="Share of the true best k to find, up to 1.")
    ] = None,
    nprobe: Annotated[int | None, typer.Option("--nprobe", min=1, help="Inverted lists to probe.")] = None,
    embedding: options.EmbeddingOption = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--fields", metavar="NAME,...", help="Texts and attributes to show; * for all."),
    ] = None,
    mode: Annotated[
        _Mode | None, typer.Option("--mode", help="Items by similarity (dense), by terms (lexical), or by both.")
    ] = None,
    terms: Annotated[
        str, typer.Option("--terms", metavar="TEXT", help="What to search by terms for; TEXT unless given.")
    ] = "",
    rank_fusion: options.RankFusionOption = False,
    fusion: options.FusionOption = None,
    profile: Annotated[
        str, typer.Option("--profile", metavar="NAME", help="A scoring profile; the collection's own unless given.")
    ] = "",
    rank: options.RankOption = None,
    query_feature: options.QueryFeatureOption = None,
    min_score: Annotated[float | None, typer.Option("--min-score", help="Leave out hits that score less.")] = None,
    group_by: Annotated[
        str, typer.Option("--group-by", metavar="ATTRIBUTE", help="One hit of each value at most.")
    ] = "",
    per_group: Annotated[int, typer.Option("--per-group", min=1, help="Hits of each value.")] = 1,
    diversity: options.DiversityOption = None,
    diversity_candidates: options.DiversityCandidatesOption = None,
    facet: options.FacetOption = None,
    page: options.PageOption = False,
    cursor: options.CursorOption = "",
    legs: Annotated[bool, typer.Option("--legs", help="Show what the scores are made of.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show everything the reply says was done.")] = False,
    as_json: session.JsonOption = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Find the items nearest to a text, a vector or other items.

    With --page the reply ends with a cursor; the same command with --cursor
    and it shows the hits that follow, of the same moment.
    """
    if unlike and not like:
        raise typer.BadParameter(f"--unlike {unlike[0]}: give items that are like what is wanted too, by --like")
    if sum(map(bool, (text.strip(), like, vector_file))) != 1:
        raise typer.BadParameter("give exactly one of TEXT, --like and --vector-file")
    if per_group != 1 and not group_by:
        raise typer.BadParameter(f"--per-group {per_group}: say of which attribute, by --group-by")
    with session.connect(target) as client:
        schema = client.get_collection(collection).schema
        params = SearchParams(
            k=k,
            filter=session.parse_filter_text(filter, schema),
            exact=exact,
            recall_target=recall_target,
            nprobe=nprobe,
            mode=_MODES[mode],
            terms=terms,
            scoring=Scoring(profile) if profile else None,
            min_score=min_score,
            group_by=GroupBy(group_by, per_group) if group_by else None,
            legs=legs,
            embedding_weights=options.parse_weights(embedding or ()),
            rank_fusion=options.parse_rank_fusion(rank_fusion, fusion or ()),
            rank=rank,
            query_features=options.parse_features(query_feature or (), schema),
            diversity=options.parse_diversity(diversity, diversity_candidates),
            facets=options.parse_facets(facet or ()),
            page=page or bool(cursor),
            cursor=options.parse_cursor(cursor),
        )
        columns = output.chosen_columns(schema, fields or ())
        query = _query(text, like or (), unlike or (), vector_file=vector_file, schema=schema)
        run_search(client, schema, query, params=params, columns=columns, explain=explain, as_json=as_json)


def run_search(
    client: RetrievalClient,
    schema: Schema,
    query: Query | SimilarTo,
    *,
    params: SearchParams,
    columns: list[str],
    explain: bool = False,
    as_json: bool = False,
) -> None:
    """Search and print.

    Raises:
        InvalidArgument: a column that the schema lacks.
    """
    texts = [one.name for one in schema.text_fields if one.name in columns]
    attributes = [name for name in columns if schema.attribute(name)]
    unknown = sorted(set(columns) - {*texts, *attributes})
    if unknown:
        known = ", ".join(output.chosen_columns(schema, ["*"]))
        raise InvalidArgument("--fields", f"collection {schema.name!r} has no {', '.join(unknown)}; there are: {known}")
    began = time.perf_counter()
    result = client.search(schema.name, query, params=params, attributes=attributes, text_fields=texts)
    seconds = time.perf_counter() - began
    if as_json:
        output.print_json(output.result_record(result))
        return
    session.out.print(output.search_view(result, columns, round_trip_s=seconds))
    if params.page:
        session.out.print(output.next_page_line(result.next_page), soft_wrap=True)
    if explain:
        session.out.print(output.explanation_table(result.explanation))


def _query(
    text: str, like: Sequence[str], unlike: Sequence[str], *, vector_file: Path | None, schema: Schema
) -> Query | SimilarTo:
    if vector_file is not None:
        return read_vector(vector_file)
    if not like:
        return text
    wanted = session.parse_ids(like, schema, "--like")
    if len(wanted) > 1 or unlike:
        return Examples(tuple(wanted), tuple(session.parse_ids(unlike, schema, "--unlike")))
    from engine.client import SimilarTo

    return SimilarTo(wanted[0])


def read_vector(path: Path) -> Float32Array:
    """float32 [d] from a .npy file, a JSON list, or numbers between spaces, commas or lines.

    Raises:
        InvalidArgument: it holds no such thing.
    """
    from engine.ingest.coerce import to_vector

    try:
        if path.suffix == ".npy":
            vector: Float32Array = np.load(path, allow_pickle=False).astype(np.float32)
        else:
            vector = to_vector(path.read_text("utf-8"), path.name)
    except (ValueError, json.JSONDecodeError) as error:
        raise InvalidArgument("--vector-file", f"{path.name} holds no vector: {error}") from error
    vector = vector.squeeze()
    if vector.ndim != 1:
        raise InvalidArgument("--vector-file", f"{path.name} holds an array of shape {vector.shape}, not one vector")
    return vector
