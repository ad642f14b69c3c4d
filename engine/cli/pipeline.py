"""`ebr pipeline`: rankers checked before they serve, and the pipelines of collections."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from engine.cli import output, session
from engine.pipeline_file import PIPELINE_NAME, read_pipeline
from engine.ranking import KeywordInput, LegInput, NumberInput, Pipeline, RankInput, name_of, width_of

if TYPE_CHECKING:
    from engine.cli.ranker_check import Verdict

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Check rankers; set, show and remove a collection's pipeline."
)

FolderArgument = Annotated[
    Path, typer.Argument(metavar="FOLDER", help=f"It has {PIPELINE_NAME} and, unless that says otherwise, model.onnx.")
]
NameArgument = Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection.")]


@app.command()
def check(
    folder: FolderArgument,
    sample: Annotated[
        Path | None,
        typer.Option(
            "--sample",
            metavar="FILE.jsonl",
            help="Candidates, one a line: a number, a list of numbers or keywords for each input by its name, defaults "
            "for the others; random ones unless given.",
        ),
    ] = None,
    as_json: session.JsonOption = False,
) -> None:
    """Load a pipeline's model, hold it against its declaration and run it; exit with 1 if something is wrong.

    Needs no server. What only a collection can tell, as whether it has the attributes, is told when it is set.
    """
    from engine.cli.ranker_check import check_ranker

    pipeline = read_pipeline(folder)
    verdict = check_ranker(pipeline, sample)
    if as_json:
        output.print_json(_verdict_record(pipeline, verdict))
    else:
        _print_verdict(pipeline, verdict)
    if verdict.wrong:
        raise typer.Exit(1)


@app.command("set")
def set_(
    collection: NameArgument,
    folder: FolderArgument,
    as_json: session.JsonOption = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Rank a collection's searches from now on. The server reads the folder, at the same path, and copies the model."""
    wanted = read_pipeline(folder)
    with session.connect(target) as client:
        _show(collection, client.set_pipeline(collection, wanted), "", as_json=as_json)


@app.command()
def show(
    collection: NameArgument,
    as_json: session.JsonOption = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Show a collection's pipeline, and whether its ranker is loaded."""
    with session.connect(target) as client:
        info = client.get_collection(collection)
    _show(collection, info.schema.pipeline, info.message.schema.pipeline.error, as_json=as_json)


@app.command()
def remove(
    collection: NameArgument,
    as_json: session.JsonOption = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Leave hits in the order of their fused scores from now on."""
    with session.connect(target) as client:
        client.remove_pipeline(collection)
    if as_json:
        output.print_json({"collection": collection, "pipeline": None})
    else:
        session.out.print(Text(f"removed the pipeline of {collection}"))


def _show(collection: str, pipeline: Pipeline | None, error: str, *, as_json: bool) -> None:
    if as_json:
        told = None if pipeline is None else _record(pipeline) | {"error": error}
        output.print_json({"collection": collection, "pipeline": told})
        return
    if pipeline is None:
        session.out.print(Text(f"{collection} has no pipeline: `ebr pipeline set {collection} FOLDER` gives it one"))
        return
    session.out.print(output.pairs_table(collection, _facts(pipeline)))
    session.out.print(_inputs_table(pipeline, {}))
    if error:
        session.tell_failure(f"its ranker is not loaded, hits stay in the fused order: {error}")


def _facts(pipeline: Pipeline) -> dict[str, object]:
    rank = pipeline.rank
    return {
        "retrieve": f"{pipeline.retrieve:,} candidates, at most {rank.max_candidates:,} are ranked",
        "model": rank.model,
        "ranker version": pipeline.ranker_version,
        "deadline share": f"{rank.deadline_share:g}",
    }


def _inputs_table(pipeline: Pipeline, seen: Mapping[str, tuple[float, float]]) -> Table:
    table = output.new_table("input", "reads", "columns", "if missing", *(["from", "to"] if seen else []))
    for one in pipeline.rank.inputs:
        span = [f"{end:.4g}" for end in seen[name_of(one)]] if seen else []
        table.add_row(name_of(one), _reads(one), str(width_of(one)), _missing(one), *span)
    return table


def _reads(one: RankInput) -> str:
    match one:
        case LegInput():
            return f"leg {one.leg}, {one.form}"
        case NumberInput():
            return f"number {one.attribute}"
        case KeywordInput():
            return f"keyword {one.attribute}, {'by vocabulary' if one.vocabulary else 'hashed'}"
    return f"query's {one.feature}"


def _missing(one: RankInput) -> str:
    match one:
        case KeywordInput():
            return "0"
        case LegInput() | NumberInput():
            return f"{one.missing:g}"
    return ", ".join(f"{number:g}" for number in one.missing) or "the query is refused"


def _print_verdict(pipeline: Pipeline, verdict: Verdict) -> None:
    session.out.print(_inputs_table(pipeline, verdict.seen))
    if verdict.scores is not None:
        low, high = verdict.scores
        facts = {
            "ranker version": verdict.version,
            "candidates": f"{verdict.candidates:,} {'of the sample' if verdict.is_sample else 'at random'}",
            "scores": f"{low:.4g} to {high:.4g}",
            "p50 of 500 candidates": output.milliseconds(verdict.p50_s),
        }
        session.out.print(output.pairs_table("ranker", facts))
    for told in verdict.wrong:
        session.tell_failure(told)
    if not verdict.wrong:
        session.out.print(Text("the model fits its declaration", style="green"))


def _record(pipeline: Pipeline) -> dict[str, Any]:
    """As the wire has it, by protobuf's JSON with our field names."""
    from google.protobuf.json_format import MessageToDict

    from engine import convert

    record: dict[str, Any] = MessageToDict(convert.pipeline_to(pipeline), preserving_proto_field_name=True)
    return record


def _verdict_record(pipeline: Pipeline, verdict: Verdict) -> dict[str, Any]:
    spans = {name: {"from": low, "to": high} for name, (low, high) in verdict.seen.items()}
    inputs = [
        {"name": name_of(one), "reads": _reads(one), "columns": width_of(one), **spans.get(name_of(one), {})}
        for one in pipeline.rank.inputs
    ]
    told: dict[str, Any] = {"inputs": inputs, "ranker_version": verdict.version, "candidates": verdict.candidates}
    if verdict.scores is not None:
        told |= {"scores": {"from": verdict.scores[0], "to": verdict.scores[1]}, "p50_500_s": verdict.p50_s}
    return told | {"wrong": verdict.wrong}
