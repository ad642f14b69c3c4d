from __future__ import annotations

from pathlib import Path

import pytest

from engine.store.rankers import place_ranker, ranker_files


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Path]:
    files = {name: tmp_path / name for name in ("model.onnx", "weights.bin")}
    for name, path in files.items():
        path.write_text(f"content of {name}")
    return files


def test_a_copy_that_is_whole_is_kept(tmp_path: Path, source: dict[str, Path]) -> None:
    folder = place_ranker(tmp_path / "books", "v", source)
    before = [path.stat().st_ino for path in folder.iterdir()]

    assert place_ranker(tmp_path / "books", "v", source) == folder
    assert [path.stat().st_ino for path in folder.iterdir()] == before


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_copy_that_is_damaged_is_replaced(tmp_path: Path, source: dict[str, Path], damage: str) -> None:
    kept = place_ranker(tmp_path / "books", "v", source) / "weights.bin"
    if damage == "changed":
        kept.write_text("Content of weights.bin")
    else:
        kept.unlink()

    place_ranker(tmp_path / "books", "v", source)

    copies = {path.name: path.read_text() for path in ranker_files(tmp_path / "books", "v")}
    assert copies == {name: f"content of {name}" for name in source}
    assert [path.name for path in (tmp_path / "books" / "rankers").iterdir()] == ["v"]
