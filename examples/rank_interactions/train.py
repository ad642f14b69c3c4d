"""Trains a ranker for next-item search on histories, sets it as a collection's pipeline, and says what it is worth.

Needs a running server. Candidates and their features come from the server's own replies, as they will when it ranks.
The last item of each user is held out to report, the one before to choose by, the one before that to train with;
whatever is chosen (the fused score's weights, the network's size) is chosen on the second, and the first is looked at
once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[1]))

from engine.client import BatchResult, RetrievalClient  # noqa: E402  # after its folder is known
from engine.pipeline_file import read_pipeline  # noqa: E402
from engine.scoring import Feature, Overlap, Scoring  # noqa: E402
from engine.types import AttributeSpec, AttributeType, Item, Schema, SearchParams, Visibility  # noqa: E402
from examples.rank_interactions.histories import (  # noqa: E402
    HELD_OUT,
    Histories,
    embeddings,
    popularity,
    query_vector,
    read_histories,
)
from examples.rank_interactions.ranker import Float32Array, Network, export, scores_of, train  # noqa: E402

K = 10
DIMENSION = 64
SEED = 11
LEGS = ("similarity", "popular", "last", "all")
"""As pipeline.toml has them; the fused score and the length of the history come after."""
_BATCH = 64
_WEIGHTS = [(popular, last, both) for popular in (0.0, 0.02, 0.05) for last in (0.0, 0.1, 0.3) for both in (0.0, 0.3)]
_SIZES = [(hidden, epochs) for hidden in (16, 48) for epochs in (4, 12)]

Weights = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Asked:
    """Users' histories and the item that came next."""

    histories: list[list[int]]
    wanted: list[int]


@dataclass(frozen=True, slots=True)
class Lists:
    """Candidates of queries: ids int64 [B, n], -1 where there are none, and columns float32 [B, n, F], best first."""

    ids: npt.NDArray[np.int64]
    columns: Float32Array


def held_out(histories: Histories, place: int, *, users: int) -> Asked:
    """The item that is ``place`` from the end, of some users, the same ones each time."""
    chosen = np.random.default_rng(SEED).permutation(len(histories.users))[:users].tolist()
    of_users = [histories.users[user] for user in chosen]
    return Asked([user[:-place] for user in of_users], [user[-place] for user in of_users])


def load(client: RetrievalClient, name: str, histories: Histories, vectors: dict[int, Float32Array]) -> None:
    """A new collection of the items, in place of an older one."""
    if name in [one.schema.name for one in client.list_collections()]:
        client.delete_collection(name)
    attributes = (
        AttributeSpec("tags", AttributeType.KEYWORD_LIST),
        AttributeSpec("bought", AttributeType.INT, filterable=False, volatile=True),
    )
    client.create_collection(Schema(name, "uint64", "dot", "float32", dimension=DIMENSION, attributes=attributes))
    bought = popularity(histories)
    items = [
        Item(item, {}, {"tags": histories.tags.get(item, ()), "bought": bought[item]}, vectors[item])
        for item in histories.items
    ]
    for first in range(0, len(items), 1000):
        client.upsert(name, items[first : first + 1000])
    client.upsert(name, items[-1:], visibility=Visibility.SEARCHABLE)


def params_of(history: list[int], tags: dict[int, tuple[str, ...]], weights: Weights, **params: object) -> SearchParams:
    """What is asked for a history: nothing it has already, scored by similarity, popularity and shared tags."""
    popular, last, both = weights
    terms: list[Feature | Overlap] = [Feature("bought", popular, "log1p", name="popular")]
    for name, weight, items in (("last", last, history[-1:]), ("all", both, history)):
        own = tuple(dict.fromkeys(tag for item in items for tag in tags.get(item, ())))
        if own:
            terms.append(Overlap("tags", own, weight, name=name))
    excluded = np.array(sorted(set(history)), np.uint64)
    return SearchParams(
        exclude_ids=excluded,
        scoring=Scoring(terms=tuple(terms)),
        query_features={"history": (float(np.log(len(history))),)},
        **params,  # type: ignore[arg-type]  # the caller's own
    )


def _answers(
    client: RetrievalClient,
    name: str,
    asked: Asked,
    params: Sequence[SearchParams],
    vectors: dict[int, Float32Array],
) -> Iterator[tuple[int, BatchResult]]:
    for first in range(0, len(asked.histories), _BATCH):
        part = asked.histories[first : first + _BATCH]
        queries = np.stack([query_vector(history, vectors) for history in part])
        yield first, client.search_batch(name, queries, params=params[first : first + _BATCH], timeout_s=60.0)


def hits_of(
    client: RetrievalClient,
    name: str,
    asked: Asked,
    params: Sequence[SearchParams],
    vectors: dict[int, Float32Array],
    n: int,
) -> npt.NDArray[np.int64]:
    """int64 [B, n], -1 where there are fewer."""
    found = np.full((len(asked.histories), n), -1, np.int64)
    for first, batch in _answers(client, name, asked, params, vectors):
        for place in range(len(batch.counts)):
            ids = np.asarray(batch.rows(place)[0]).astype(np.int64)
            found[first + place, : len(ids)] = ids
    return found


def candidates_of(
    client: RetrievalClient,
    name: str,
    asked: Asked,
    histories: Histories,
    weights: Weights,
    vectors: dict[int, Float32Array],
    n: int,
) -> Lists:
    """The best n by the fused score with what the ranker will read of them."""
    params = [params_of(one, histories.tags, weights, k=n, legs=True, rank=False) for one in asked.histories]
    lists = Lists(np.full((len(params), n), -1, np.int64), np.zeros((len(params), n, len(LEGS) + 2), np.float32))
    for first, batch in _answers(client, name, asked, params, vectors):
        ends = np.cumsum(batch.counts)
        legs = {leg.name: leg.normalised for leg in batch.legs}
        none = np.zeros(int(ends[-1]), np.float32)
        columns = np.stack([*(legs.get(leg, none) for leg in LEGS), batch.scores], axis=1)
        ids = np.asarray(batch.ids).astype(np.int64)
        for place, (end, count) in enumerate(zip(ends.tolist(), batch.counts.tolist(), strict=True)):
            own = slice(end - count, end)
            lists.ids[first + place, :count] = ids[own]
            lists.columns[first + place, :count, :-1] = columns[own]
            lists.columns[first + place, :, -1] = np.log(len(asked.histories[first + place]))
    return lists


def measures(found: npt.NDArray[np.int64], wanted: list[int]) -> dict[str, float]:
    """With one right item a query: nDCG@10 and recall@10."""
    is_right = found[:, :K] == np.array(wanted)[:, None]
    gains = is_right / np.log2(np.arange(2, 2 + is_right.shape[1]))
    return {"ndcg@10": float(gains.sum(1).mean()), "recall@10": float(is_right.any(1).mean())}


def ranked_here(network: Network, lists: Lists) -> npt.NDArray[np.int64]:
    """The candidates as the network orders them, without a server."""
    scores = np.where(lists.ids < 0, -np.inf, scores_of(network, lists.columns))
    return np.take_along_axis(lists.ids, np.argsort(-scores, axis=1, kind="stable"), axis=1)


def _chosen_weights(
    client: RetrievalClient, name: str, asked: Asked, histories: Histories, vectors: dict[int, Float32Array]
) -> Weights:
    def ndcg(weights: Weights) -> float:
        params = [params_of(one, histories.tags, weights, k=K, rank=False) for one in asked.histories]
        return measures(hits_of(client, name, asked, params, vectors, K), asked.wanted)["ndcg@10"]

    return max(_WEIGHTS, key=ndcg)


def run(
    client: RetrievalClient, histories: Histories, out: Path, *, name: str, users: int, n: int
) -> dict[str, object]:
    """Train, choose, set the pipeline and report; ``out`` becomes the pipeline's folder."""
    vectors = embeddings(histories, dimension=DIMENSION, seed=SEED)
    load(client, name, histories, vectors)
    to_train, to_choose, to_report = (held_out(histories, place, users=users) for place in range(HELD_OUT, 0, -1))
    weights = _chosen_weights(client, name, to_choose, histories, vectors)
    trained_on = candidates_of(client, name, to_train, histories, weights, vectors, n)
    is_wanted = trained_on.ids == np.array(to_train.wanted)[:, None]
    has_wanted = is_wanted.any(1)
    chosen_by = candidates_of(client, name, to_choose, histories, weights, vectors, n)
    best, best_ndcg, size = None, -1.0, (0, 0)
    for hidden, epochs in _SIZES:
        network = train(
            trained_on.columns[has_wanted],
            is_wanted[has_wanted].argmax(1),
            hidden=hidden,
            epochs=epochs,
            seed=SEED,
        )
        ndcg = measures(ranked_here(network, chosen_by), to_choose.wanted)["ndcg@10"]
        if ndcg > best_ndcg:
            best, best_ndcg, size = network, ndcg, (hidden, epochs)
    assert best is not None
    out.mkdir(parents=True, exist_ok=True)
    export(best, out / "model.onnx")
    (out / "pipeline.toml").write_text(
        (HERE / "pipeline.toml").read_text().replace("retrieve = 200", f"retrieve = {n}")
    )
    known = client.set_pipeline(name, read_pipeline(out))

    def reported(rank: bool) -> dict[str, float]:
        params = [params_of(one, histories.tags, weights, k=K, rank=rank) for one in to_report.histories]
        return measures(hits_of(client, name, to_report, params, vectors, K), to_report.wanted)

    within = candidates_of(client, name, to_report, histories, weights, vectors, n)
    return {
        "users": len(to_report.wanted),
        "trained_on": int(has_wanted.sum()),
        "weights": dict(zip(("popular", "last", "all"), weights, strict=True)),
        "hidden_and_epochs": size,
        "validation_ndcg@10": best_ndcg,
        "fused": reported(False),
        "ranked": reported(True),
        "ranked_here": measures(ranked_here(best, within), to_report.wanted),
        f"recall@{n}": float((within.ids == np.array(to_report.wanted)[:, None]).any(1).mean()),
        "ranker_version": known.ranker_version,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a ranker on histories, serve it, say what it is worth.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder that has `interactions`")
    parser.add_argument("--set", default="beauty", help="beauty or toys_and_games")
    parser.add_argument("--target", default="127.0.0.1:50051", help="the server, HOST:PORT")
    parser.add_argument(
        "--out", type=Path, default=Path("ebr-data/ranker"), help="folder of the model and its pipeline"
    )
    parser.add_argument("--users", type=int, default=6000, help="users whose held-out items are looked for")
    parser.add_argument("--candidates", type=int, default=200, help="retrieved and ranked")
    asked = parser.parse_args()
    histories = read_histories(asked.data / "interactions", asked.set)
    with RetrievalClient(asked.target) as client:
        told = run(client, histories, asked.out, name=asked.set, users=asked.users, n=asked.candidates)
    sys.stdout.write(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
