from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import CorruptData
from engine.index.drift import Drift
from engine.index.ivfpq import (
    IvfPqImage,
    climb,
    code_sizes,
    file_sha256,
    image_ids,
    image_path,
    index_path,
    list_counts,
    min_rows_to_train,
    read_image,
    remove_image,
    sample_rows,
    worth_training,
    write_image,
)
from engine.index.tuning import Costs, Tuning

COSTS = Costs(7e-5, 1e-10, 1.3e-10, 3e-10, 8e-5, 1e-9, 3e-10)


def image(image_id: str, folder: Path, *, sequence: int = 7) -> IvfPqImage:
    index_path(folder, image_id).write_bytes(b"lists of " + image_id.encode())
    return IvfPqImage(
        id=image_id,
        dimension=32,
        metric="l2",
        nlist=64,
        code_bytes=4,
        n_rows=5000,
        live_rows=4900,
        trained_rows=4000,
        sequence=sequence,
        seed=3,
        index_sha256=file_sha256(index_path(folder, image_id)),
        build_seconds=1.5,
        tuning=Tuning([], COSTS),
    )


@given(n_live=st.integers(1, 10**9))
def test_lists_are_about_the_root_of_the_rows_and_have_rows_enough_to_train_on(n_live: int) -> None:
    counts = list_counts(n_live)
    assert list(counts) == sorted(counts)
    assert all(39 * count <= max(n_live, 39) for count in counts)
    if n_live >= 10_000:
        assert n_live**0.5 <= counts[0] < 2 * n_live**0.5


def test_sixty_thousand_rows_try_no_fewer_than_256_lists() -> None:
    assert list_counts(60_000) == (256, 512, 1024)


@given(dimension=st.integers(1, 4096))
def test_code_sizes_are_allowed_ascending_and_few(dimension: int) -> None:
    padded = -(-dimension // 8) * 8
    allowed = [size for size in range(1, padded + 1) if padded % size == 0]
    sizes = code_sizes(dimension, allowed)
    assert 1 <= len(sizes) <= 4
    assert set(sizes) <= set(allowed)
    assert list(sizes) == sorted(sizes)


@given(n_live=st.integers(1, 10**8), nlist=st.sampled_from([64, 1024, 16384]), d=st.integers(1, 4096))
def test_a_sample_is_bounded_by_rows_centroids_and_memory(n_live: int, nlist: int, d: int) -> None:
    rows = sample_rows(n_live, nlist, d)
    assert rows <= min(n_live, 64 * max(nlist, 256))
    assert rows * d * 4 <= 512 << 20
    assert rows == n_live or rows >= 39 * 256


@given(dimension=st.sampled_from([32, 128, 384, 784]))
def test_training_pays_from_one_number_of_rows_on(dimension: int) -> None:
    least = min_rows_to_train(dimension, COSTS)
    assert worth_training(least, dimension, COSTS)
    assert least < 1_000_000
    assert not worth_training(least // 2, dimension, COSTS)


def test_training_pays_sooner_where_scanning_is_slower() -> None:
    slow = Costs(7e-5, 1e-10, 13e-10, 30e-10, 8e-5, 1e-9, 3e-10)
    assert min_rows_to_train(32, slow) < min_rows_to_train(32, COSTS)


@given(seconds=st.lists(st.integers(1, 50), min_size=1, max_size=6), data=st.data())
def test_climbing_ends_where_no_neighbour_is_faster_and_measures_each_once(
    seconds: list[int], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(seconds) - 1))
    asked: list[int] = []

    def measure(candidate: int) -> float:
        asked.append(candidate)
        return float(seconds[candidate])

    place = climb(range(len(seconds)), start, measure)
    assert len(asked) == len(set(asked))
    assert all(seconds[place] <= seconds[near] for near in (place - 1, place + 1) if 0 <= near < len(seconds))


def test_climbing_prefers_the_smaller_of_equals() -> None:
    assert climb([8, 16, 32], 16, lambda size: 1.0) == 8


def test_an_image_reads_back_as_written(tmp_path: Path) -> None:
    written = image("a", tmp_path)
    write_image(tmp_path, written)
    read = read_image(tmp_path, "a")
    assert read.to_json() == written.to_json()
    assert read.tuning.costs == COSTS


def test_the_newest_image_comes_first_and_unreadable_ones_last(tmp_path: Path) -> None:
    for name, sequence in (("a", 2), ("b", 9), ("c", 5)):
        write_image(tmp_path, image(name, tmp_path, sequence=sequence))
    image_path(tmp_path, "z").write_text("{")
    assert image_ids(tmp_path) == ["b", "c", "a", "z"]
    remove_image(tmp_path, "b")
    assert image_ids(tmp_path) == ["c", "a", "z"]


def test_changed_lists_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path, image("a", tmp_path))
    index_path(tmp_path, "a").write_bytes(b"other lists")
    with pytest.raises(CorruptData, match="sha256"):
        read_image(tmp_path, "a")


@pytest.mark.parametrize("change", [{"format": 1}, {"nlist": None, "surplus": 1}, {"tuning": {}}, {"n_rows": "3000"}])
def test_what_is_no_image_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    write_image(tmp_path, image("a", tmp_path))
    path = image_path(tmp_path, "a")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CorruptData):
        read_image(tmp_path, "a")


def test_a_file_that_holds_no_object_is_no_image(tmp_path: Path) -> None:
    write_image(tmp_path, image("a", tmp_path))
    image_path(tmp_path, "a").write_text("[]")
    with pytest.raises(CorruptData):
        read_image(tmp_path, "a")


def test_missing_lists_are_corrupt_data(tmp_path: Path) -> None:
    write_image(tmp_path, image("a", tmp_path))
    index_path(tmp_path, "a").unlink()
    with pytest.raises(CorruptData):
        read_image(tmp_path, "a")


def test_an_image_tells_the_drift_and_one_written_before_any_was_measured_tells_none(tmp_path: Path) -> None:
    plain = image("a", tmp_path)
    assert "drift" not in plain.to_json()
    drifted = replace(plain, drift=Drift(2.5, 4900, rows=10, far=3.0))
    write_image(tmp_path, drifted)
    assert read_image(tmp_path, "a").drift == drifted.drift
    drifted = replace(plain, drift=Drift(2.5, 4900, rows=10, far=3.0, imbalance=1.5))
    write_image(tmp_path, drifted)
    assert read_image(tmp_path, "a").drift == drifted.drift
    write_image(tmp_path, plain)
    assert read_image(tmp_path, "a").drift is None
    damaged = {**drifted.to_json(), "drift": 7}
    with pytest.raises(CorruptData, match="no drift"):
        IvfPqImage.from_json(damaged)
