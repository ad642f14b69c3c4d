"""`ebr demo`: a server on a small real corpus, searched through its client, and how to go on from there."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.rule import Rule
from rich.text import Text

from engine.cli import session
from engine.cli.load import load_with_progress, open_collection, wait_until_searchable
from engine.cli.load_state import LoadState
from engine.cli.loaders import make_loader
from engine.cli.search import run_search
from engine.cli.server_child import ServerChild
from engine.errors import ConfigError, InvalidArgument
from engine.ingest.coerce import map_fields
from engine.ingest.readers import open_records
from engine.schema_file import read_schema
from engine.types import Schema, SearchParams

if TYPE_CHECKING:
    from engine.client import CollectionInfo, RetrievalClient

app = typer.Typer(add_completion=False)

_DEFAULT_PORT = 50051
_START_SECONDS = 180.0
_QUERIES = 3
_COLUMNS = ["title", "major_group_title", "job_zone"]
_FILTER = "job_zone <= 2"
_FILTERED_QUERY = "looks after machines in a factory"


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Stop after the searches.")] = False,
    data_dir: Annotated[
        Path, typer.Option("--data-dir", metavar="DIR", help="Where the demo keeps its collection and its log.")
    ] = Path("ebr-data/demo"),
    port: Annotated[
        int,
        typer.Option(
            "--port", min=0, max=65_535, show_default=False, help="Port to serve on; 50051 or a free one if not given."
        ),
    ] = 0,
) -> None:
    """Start a server on a demo corpus (occupations of O*NET), search it and show how; Ctrl-C stops it."""
    with _terminated_as_interrupted():
        try:
            _run(data_dir, _free_port((port,) if port else (_DEFAULT_PORT, 0)), once=once)
        except KeyboardInterrupt:
            session.err.print(Text("stopped"))


def _run(data_dir: Path, port: int, *, once: bool) -> None:
    data_dir.mkdir(parents=True, exist_ok=True)
    target = f"127.0.0.1:{port}"
    long = "" if (data_dir / "kernel-cache").is_dir() else " (the first start compiles the kernels, about a minute)"
    session.out.print(Text(f"starting a server on {target}, data in {data_dir} ...{long}"))
    began = time.perf_counter()
    with ServerChild(data_dir, target) as child, session.connect(target) as client:
        child.wait_until_serving(client, timeout_s=_START_SECONDS)
        _tell_start(client, time.perf_counter() - began)
        with resources.as_file(resources.files("engine") / "demo_data" / "onet") as corpus, child.watched():
            info = _load(client, corpus, data_dir)
            child.wait_until_serving(client, info.schema.name, timeout_s=_START_SECONDS)
            _search(client, info.schema, corpus)
        if once:
            session.out.print(Text("done; without --once the server stays up until Ctrl-C", style="bold"))
            return
        _tell_how_to_go_on(info.schema.name, target)
        session.out.print(Text("serving until Ctrl-C", style="bold"))
        child.wait()


def _tell_start(client: RetrievalClient, seconds: float) -> None:
    server = client.server()
    parts = sorted(server.start_seconds.items(), key=lambda part: -part[1])
    told = ", ".join(f"{name} {value:.2f} s" for name, value in parts)
    session.out.print(Text(f"serving after {seconds:.2f} s ({told}) on {server.device}"))


def _load(client: RetrievalClient, corpus: Path, data_dir: Path) -> CollectionInfo:
    """The collection with the corpus in it; what is there already is not sent again.

    Raises:
        ConfigError: what is there is of another schema, as an earlier release's demo has it.
    """
    try:
        info = open_collection(client, read_schema(corpus / "schema.toml"))
    except InvalidArgument as error:
        told = f"{data_dir} has another demo: {error.message}; remove the folder, or give another with --data-dir"
        raise ConfigError(told) from error
    path = corpus / "corpus.jsonl.gz"
    with gzip.open(path) as lines:
        n_items = sum(1 for _ in lines)
    if info.items == n_items:
        session.out.print(Text(f"{n_items:,} occupations are loaded already"))
        return info
    records = open_records(path)
    state = LoadState()
    began = time.perf_counter()
    loader = make_loader(client, info, records, fields=map_fields(info.schema), state=state, batch_items=64)
    load_with_progress(loader, lambda _: None)
    wait_until_searchable(client, info.schema.name, state.sequence)
    seconds = time.perf_counter() - began
    truncated = f", {state.truncated_items:,} longer than the encoder reads" if state.truncated_items else ""
    session.out.print(Text(f"{state.accepted:,} occupations encoded and loaded in {seconds:.1f} s{truncated}"))
    return client.get_collection(info.schema.name)


def _search(client: RetrievalClient, schema: Schema, corpus: Path) -> None:
    for query in _job_titles(corpus / "queries.jsonl.gz"):
        _title(f"job title: {query}")
        run_search(client, schema, query, params=SearchParams(k=5), columns=_COLUMNS)
    _title(f"{_FILTERED_QUERY}   --filter '{_FILTER}'")
    params = SearchParams(k=5, filter=session.parse_filter_text(_FILTER, schema))
    run_search(client, schema, _FILTERED_QUERY, params=params, columns=_COLUMNS)
    from engine.client import SimilarTo

    like = client.search(schema.name, "nurse", params=SearchParams(k=1), text_fields=("title",)).hits[0]
    _title(f"items like {like.id} ({like.text['title']})")
    run_search(client, schema, SimilarTo(like.id), params=SearchParams(k=5), columns=_COLUMNS)


def _job_titles(path: Path) -> list[str]:
    """A few, far apart in the file: neighbours there are of one occupation."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        titles = [str(json.loads(line)["text"]) for line in lines]
    step = len(titles) // (_QUERIES + 1)
    return [titles[step * place] for place in range(1, _QUERIES + 1)]


def _title(text: str) -> None:
    session.out.print(Rule(Text(text, style="bold"), align="left"))


def _tell_how_to_go_on(name: str, target: str) -> None:
    is_default = target == session.DEFAULT_TARGET
    option = "" if is_default else f" --target {target}"
    request = json.dumps({"collection": name, "query": {"text": "baker"}, "params": {"k": 3}})
    session.out.print(Rule(Text("go on", style="bold"), align="left"))
    ebr = _called_as()
    for command in (
        f'{ebr} search "drives a bus" -c {name}{option}',
        f'{ebr} search "cares for animals" -c {name} -f "{_FILTER}" --explain{option}',
        f'{ebr} search "registered nurse" -c {name} -f "title contains nurse" --mode hybrid --legs{option}',
        f"{ebr} collection get {name}{option}",
        f"grpcurl -plaintext -d '{request}' {target} engine.v1.RetrievalService/Search",
    ):
        session.out.print(Text(f"  {command}"), soft_wrap=True)


def _called_as() -> str:
    """The command as the shell can call it: by its path where `ebr` is not on PATH, as when `make` called it."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "ebr" and shutil.which("ebr") is None else "ebr"


def _free_port(ports: Sequence[int]) -> int:
    """The first of them that is free; 0 stands for one that the system picks.

    Raises:
        ConfigError: none is free.
    """
    for port in ports:
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(one.getsockname()[1])
    raise ConfigError(f"port {ports[0]} is taken: give another with --port")


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does, so that its server goes with it."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
