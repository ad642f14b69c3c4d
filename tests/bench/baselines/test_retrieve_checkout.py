from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bench.baselines import linr, retrieve_checkout
from bench.baselines.retrieve_checkout import NoCheckout
from tests.bench.baselines.test_linr import World

LINR = """
from torch import inf


class LiNRV1:
    def __init__(self, k, *, filter):
        self.k, self.filter = k, filter

    def register_index(self, items, attributes, clause_is_reverse):
        self.items, self.attributes, self.reverse = items, attributes, clause_is_reverse

    def __call__(self, queries, asked):
        equal = (self.attributes[None] == asked[:, None, :, None]).any(dim=3)
        scores = (queries @ self.items.T).masked_fill(~(equal != self.reverse).all(dim=2), -inf)
        best, rows = scores.topk(self.k)
        return rows.where(best > -inf, -1), best


class LiNRV2(LiNRV1):
    pass


class LiNRV3(LiNRV1):
    def __init__(self, k, *, candidate_pool, filter):
        super().__init__(k, filter=filter)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """With the interface of theirs and none of its code."""
    modules = tmp_path / "retrieve" / "src" / "retrieve" / "modules"
    modules.mkdir(parents=True)
    for folder in (modules.parent, modules):
        (folder / "__init__.py").touch()
    (modules / "linr.py").write_text(LINR, "utf-8")
    (modules / "filters.py").write_text("class ExactAttributeFilter:\n    pass\n", "utf-8")
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "retrieve"]:
        del sys.modules[name]


def test_a_checkout_s_searches_are_asked_as_ours_are(checkout: Path) -> None:
    world = World()
    found = retrieve_checkout.searches(checkout, world.items, world.clauses, k=7, pool=50)
    assert list(found) == ["v1", "v2", "v3"]
    ours = linr.similarity_masking(world.items, world.clauses, world.queries, world.asked, k=7)
    for search in found.values():
        assert torch.equal(search(world.queries, world.asked), ours)
    assert str(checkout) not in "".join(sys.path)


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    world = World()
    with pytest.raises(NoCheckout, match="is no checkout of rmnigm/retrieve"):
        retrieve_checkout.searches(tmp_path, world.items, world.clauses, k=7, pool=50)


def test_another_interface_is_told(checkout: Path) -> None:
    (checkout / "retrieve" / "src" / "retrieve" / "modules" / "linr.py").write_text("LiNRV1 = None\n", "utf-8")
    world = World()
    with pytest.raises(NoCheckout, match="has another interface"):
        retrieve_checkout.searches(checkout, world.items, world.clauses, k=7, pool=50)
