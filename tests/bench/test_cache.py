from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.cache import cache_folder, cached_array, content_key


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EBR_BENCH_CACHE", str(tmp_path / "cache"))


def test_an_array_is_made_once(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> np.ndarray:  # type: ignore[type-arg]  # any array
        made.append(1)
        return np.arange(6, dtype=np.float32).reshape(2, 3)

    first = cached_array("toy", "key", make)
    second = cached_array("toy", "key", make)
    assert made == [1]
    assert np.array_equal(first, second)
    assert cache_folder() == tmp_path / "cache"
    assert [path.name for path in cache_folder().iterdir()] == ["toy-key.npy"]


def test_the_key_changes_with_every_part() -> None:
    rows = np.zeros((2, 3), np.float32)
    keys = [
        content_key("v1", ["a", "b"], rows),
        content_key("v2", ["a", "b"], rows),
        content_key("v1", ["ab"], rows),
        content_key("v1", ["a", "b"], rows.reshape(3, 2)),
        content_key("v1", ["a", "b"], rows + 1),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == content_key("v1", ["a", "b"], rows.copy())
