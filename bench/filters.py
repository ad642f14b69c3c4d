"""Filters over a million rows: evaluated anew and from the cache, beside pyarrow.compute and duckdb, and under writes.

Whatever is compared is run in turn over the same rows, each time with the CPU's caches emptied by reading 64 MiB, so
that columns come from memory. ``kept`` figures are of masks from the cache.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.cache import cache_folder
from bench.harness import SEED, Options, Report, interleaved, run, seconds_of
from engine import threads
from engine.types import AttributeSpec, AttributeType, AttributeValue, Filter, HasId, Match, Range, Schema, Uint8Array

N = 1_000_000
N_EXCLUDED = 50_000
N_KEYWORDS = 20
N_FILTERS = 64
UPSERT_RATES = (0, 1000, 5000)
_EVICTED_BYTES = 64 << 20
_TICK_S = 0.02
_ATTRIBUTES = (
    AttributeSpec("price", AttributeType.INT),
    AttributeSpec("score", AttributeType.FLOAT),
    AttributeSpec("made", AttributeType.INT),
    AttributeSpec("kind", AttributeType.KEYWORD),
)
_SCHEMA = Schema("rows", id_type="uint64", attributes=_ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class Rows:
    """The columns [N] that every engine holds, and the ids that are left out of a search."""

    id: npt.NDArray[np.uint64]
    price: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    made: npt.NDArray[np.int64]
    kind: npt.NDArray[Any]
    excluded: npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Case:
    """One filter in the words of each engine; the peers give the number of rows that pass."""

    name: str
    tree: Filter
    arrow: Callable[[], int]
    sql: str
    times_faster: float


def main(argv: Sequence[str] | None = None) -> int:
    return run("filters", _body, argv=argv)


def _body(options: Options, report: Report) -> None:
    n_threads = threads.configure(None, cache_folder() / "numba")  # before a library with a pool is loaded
    from kernels import cpu

    cpu.use_threads(n_threads)
    cpu.warm_up(np.dtype(np.float16))
    rows = _rows()
    bed = Bed(rows, n_threads)
    report.figure("rows", N)
    report.figure("threads", n_threads)
    bed.read_bandwidth(options, report)
    for case in _cases(rows, bed.arrow):
        bed.compare(case, options, report)
    bed.compile_times(options, report)
    for rate in UPSERT_RATES:
        _under_writes(bed, rate, 3.0 if options.quick else 10.0, report)


def _rows() -> Rows:
    rng = np.random.default_rng(SEED)
    ids = rng.permutation(np.arange(N, dtype=np.uint64) * np.uint64(7919))
    kinds = np.array([f"kind{number}" for number in range(N_KEYWORDS)])
    return Rows(
        id=ids,
        price=rng.integers(0, 1000, N),
        score=rng.random(N),
        made=rng.integers(0, 10**15, N),
        kind=kinds[rng.integers(0, N_KEYWORDS, N)],
        excluded=rng.choice(ids, N_EXCLUDED, replace=False),
    )


def _cases(rows: Rows, table: Any) -> list[Case]:
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    excluded = pa.array(rows.excluded)

    def between(name: str, low: float, high: float) -> Any:
        return pc.and_(pc.greater_equal(table[name], low), pc.less(table[name], high))

    def passing(flags: Any) -> int:
        return int(pc.sum(flags).as_py())

    def nested() -> int:
        recent = pc.and_(between("made", 0, 5 * 10**14), pc.not_equal(table["kind"], "kind3"))
        good = pc.or_(pc.equal(table["kind"], "kind1"), pc.or_(between("score", 0.1, 0.5), recent))
        return passing(pc.and_(pc.and_(between("price", 100, 500), good), pc.less(table["score"], 0.9)))

    nested_tree = Filter(
        must=(
            Range("price", gte=100, lt=500),
            Range("score", lt=0.9),
            Filter(
                should=(
                    Match("kind", ("kind1",)),
                    Range("score", gte=0.1, lt=0.5),
                    Filter(must=(Range("made", gte=0, lt=5 * 10**14),), must_not=(Match("kind", ("kind3",)),)),
                )
            ),
        )
    )
    return [
        Case(
            "range_and_keyword",
            Filter(must=(Range("price", gte=100, lt=500), Match("kind", ("kind1", "kind2")))),
            lambda: passing(
                pc.and_(between("price", 100, 500), pc.is_in(table["kind"], value_set=pa.array(["kind1", "kind2"])))
            ),
            "price >= 100 and price < 500 and kind in ('kind1', 'kind2')",
            3.0,
        ),
        Case(
            "nested_six",
            nested_tree,
            nested,
            "price >= 100 and price < 500 and score < 0.9 and (kind = 'kind1' or (score >= 0.1 and score < 0.5) "
            "or (made >= 0 and made < 500000000000000 and kind <> 'kind3'))",
            5.0,
        ),
        Case(
            "excluded_ids",
            Filter(must_not=(HasId(rows.excluded),)),  # type: ignore[arg-type]  # as messages carry them
            lambda: len(pc.filter(table["id"], pc.invert(pc.is_in(table["id"], value_set=excluded)))),
            "id not in (select id from excluded)",
            20.0,
        ),
    ]


class Bed:
    """The same rows in our columns, an Arrow table and a duckdb table."""

    def __init__(self, rows: Rows, n_threads: int) -> None:
        import duckdb
        import pyarrow as pa

        from engine.index.columns import Columns
        from engine.index.masks import MaskCache
        from engine.index.rows import Rows as ItemRows

        self.rows = rows
        names = ("id", "price", "score", "made", "kind")
        self.arrow = pa.table({name: pa.array(getattr(rows, name)) for name in names})
        # A keyword is a small number to its peers too.
        kinds = self.arrow["kind"].combine_chunks().dictionary_encode()
        self.arrow = self.arrow.set_column(names.index("kind"), "kind", kinds)
        excluded, given = pa.table({"id": pa.array(rows.excluded)}), self.arrow
        self._duckdb = duckdb.connect(config={"threads": n_threads})
        self._duckdb.register("excluded_given", excluded)
        self._duckdb.register("rows_given", given)
        self._duckdb.execute("create table rows as select * from rows_given")
        self._duckdb.execute("create table excluded as select * from excluded_given")
        self.columns, self.items, self.cache = Columns(_ATTRIBUTES), ItemRows("uint64"), MaskCache()
        self._load()
        self._other = np.ones(_EVICTED_BYTES // 8, np.int64)

    def _load(self) -> None:
        rows = self.rows
        numbers = zip(rows.price.tolist(), rows.score.tolist(), rows.made.tolist(), rows.kind.tolist(), strict=True)
        items = [{"price": a, "score": b, "made": c, "kind": d} for a, b, c, d in numbers]
        for first in range(0, N, 100_000):
            self.columns.append(items[first : first + 100_000])
        for row, one in enumerate(rows.id.tolist()):
            self.items.add(one, row, 1, born=1)

    def evict(self) -> None:
        """Fill the CPU's caches with something else."""
        self._other.sum()

    def cold(self, action: Callable[[], object]) -> float:
        self.evict()
        return seconds_of(action)

    def read_bandwidth(self, options: Options, report: Report) -> None:
        """Of one thread that adds up ints: a column of ours by itself, and 256 MiB in one go."""
        large = np.ones((256 << 20) // 8, np.int64)
        taken = interleaved(
            {"column": lambda: self.cold(self.rows.price.sum), "large": lambda: seconds_of(large.sum)},
            rounds=_rounds(options),
        )
        report.figure("read_gb_per_s.column", self.rows.price.nbytes / taken["column"].median / 1e9)
        report.figure("read_gb_per_s.large", large.nbytes / taken["large"].median / 1e9)

    def compare(self, case: Case, options: Options, report: Report) -> None:
        from engine.index.filters import compile_filter

        program = compile_filter(case.tree, _SCHEMA)
        evaluate = partial(program.evaluate, self.columns, self.items.rows_of)
        query = f"select count(*) from rows where {case.sql}"
        variants: dict[str, Callable[[], Any]] = {
            "ours": evaluate,
            "pyarrow": case.arrow,
            "duckdb": lambda: self._duckdb.execute(query).fetchall()[0][0],
        }
        if case.name == "range_and_keyword":
            variants["read"] = self.rows.price.sum
        counts = {_count(evaluate()), case.arrow(), variants["duckdb"]()}
        assert len(counts) == 1, f"{case.name}: the engines do not agree: {counts}"
        taken = interleaved({name: partial(self.cold, one) for name, one in variants.items()}, rounds=_rounds(options))
        report.figure(f"{case.name}.passing", counts.pop())
        for name, samples in taken.items():
            report.figure(f"{case.name}.{name}_ms", {k: 1e3 * v for k, v in samples.figures().items()})
        faster = min(taken["pyarrow"].median, taken["duckdb"].median)
        report.at_least(f"{case.name}.times_faster", faster / taken["ours"].median, case.times_faster)
        if "read" in taken:
            report.at_least(f"{case.name}.share_of_read_bandwidth", taken["read"].median / taken["ours"].median, 0.6)
        if not program.root.names_ids:
            self._kept(case.name, evaluate, program, options, report)

    def _kept(self, name: str, evaluate: Callable[[], Any], program: Any, options: Options, report: Report) -> None:
        """The mask from the cache, and with the rows that live ANDed to it, as each batch needs it."""
        get = partial(self.cache.mask, program, self.columns)
        alive = self.items.alive
        variants: dict[str, Callable[[], Any]] = {
            "uncached": evaluate,
            "kept": get,
            "kept_and_alive": lambda: get().among(alive),
        }
        taken = interleaved({key: partial(seconds_of, one) for key, one in variants.items()}, rounds=_rounds(options))
        for key, samples in taken.items():
            report.figure(f"{name}.warm.{key}_us", {k: 1e6 * v for k, v in samples.figures().items()})
        report.at_least(f"{name}.kept_times_faster", taken["uncached"].median / taken["kept"].median, 50.0)

    def compile_times(self, options: Options, report: Report) -> None:
        """Of a filter with 100,000 ids, as an array and as a tuple: this happens on the event loop."""
        from engine.index.filters import compile_filter

        ids = np.unique(self.rows.id)[:100_000]
        given: dict[str, Any] = {"array": ids, "tuple": tuple(ids.tolist())}

        def compiled(of: Any) -> float:
            tree = Filter(must_not=(HasId(of),))
            return seconds_of(lambda: compile_filter(tree, _SCHEMA).fingerprint)

        taken = interleaved({key: partial(compiled, one) for key, one in given.items()}, rounds=_rounds(options))
        for key, samples in taken.items():
            report.figure(f"compile_100k_ids.{key}_ms", 1e3 * samples.median)


def _rounds(options: Options) -> int:
    return 9 if options.quick else 31


def _count(mask: Uint8Array) -> int:
    return int(np.bitwise_count(mask).sum())


def _under_writes(bed: Bed, upserts_per_s: int, seconds: float, report: Report) -> None:
    """Distinct filters asked in turn while items change: each change ends a row and appends one."""
    from engine.index.filters import compile_filter
    from engine.index.masks import MaskCache

    cache, rng = MaskCache(), np.random.default_rng(SEED)
    programs = [
        compile_filter(Filter(must=(Range("price", gte=low), Match("kind", (f"kind{low % N_KEYWORDS}",)))), _SCHEMA)
        for low in range(N_FILTERS)
    ]
    cache.masks(programs, bed.columns)
    cache.counters.hits = cache.counters.misses = 0
    began, written, asked = time.perf_counter(), 0, 0
    spent: list[float] = []
    while (now := time.perf_counter() - began) < seconds:
        # What is due by now is applied at once, as between two batches.
        due = int(now / _TICK_S) * int(upserts_per_s * _TICK_S) - written
        _upsert(bed, rng.choice(bed.rows.id, due), sequence=2 + written)
        written += due
        program = programs[asked % N_FILTERS]
        spent.append(seconds_of(lambda: cache.mask(program, bed.columns).among(bed.items.alive)))  # noqa: B023
        asked += 1
        time.sleep(0.0005)
    name = f"upserts_{upserts_per_s}"
    report.figure(f"{name}.hit_rate", cache.counters.hit_rate)
    report.figure(f"{name}.upserted_per_s", written / seconds)
    report.figure(f"{name}.mask_us", {"p50": 1e6 * np.median(spent), "p99": 1e6 * np.percentile(spent, 99)})


def _upsert(bed: Bed, ids: npt.NDArray[np.uint64], *, sequence: int) -> None:
    items: list[dict[str, AttributeValue]] = []
    for place, one in enumerate(ids.tolist()):
        bed.items.kill(one, died=sequence + place)
        bed.items.add(one, bed.columns.n_rows + place, 1, born=sequence + place)
        items.append({"price": place % 1000, "score": 0.5, "made": sequence, "kind": "kind1"})
    if items:
        bed.columns.append(items)


if __name__ == "__main__":
    sys.exit(main())
