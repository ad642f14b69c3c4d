from __future__ import annotations

import asyncio
import json
from dataclasses import fields
from pathlib import Path

import pytest

from engine.config import Settings
from engine.errors import CorruptData
from engine.index.costs import Costs
from engine.limits import Limits
from engine.pipeline import engine as module
from engine.pipeline.engine import Engine
from engine.types import Schema

SCHEMA = Schema(name="things", id_type="uint64", dimension=8)


def open_files(folder: Path) -> list[str]:
    """Files of the folder that this process holds open."""
    targets = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return [str(target) for target in targets if target.is_relative_to(folder)]


@pytest.mark.parametrize("refusal", [CorruptData("no index today"), MemoryError("no memory today")])
def test_a_collection_whose_index_does_not_open_is_taken_back_with_no_file_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    costs = tmp_path / "costs.json"
    costs.write_text(json.dumps({one.name: 1e-9 for one in fields(Costs)}))

    def refuse(*_: object) -> None:
        raise refusal

    async def create_twice() -> None:
        settings = Settings(data_dir=tmp_path / "data", compute_threads=1, costs_file=costs)
        engine = Engine(settings, Limits(), health=lambda name, serves: None)
        await engine.load()
        try:
            with monkeypatch.context() as patch:
                patch.setattr(module, "recover_rows", refuse)
                with pytest.raises(type(refusal), match="today"):
                    await engine.create(SCHEMA)
            assert not open_files(tmp_path / "data" / "collections")
            assert not list((tmp_path / "data" / "collections").iterdir())
            assert (await engine.create(SCHEMA)).name == "things"
        finally:
            await engine.close()

    asyncio.run(create_twice())
