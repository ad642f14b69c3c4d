"""What a collection's index needs, judged by what it holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.config import Settings
from engine.index.tuning import Tuning
from engine.pipeline.needs import needs_codes, tail_share
from tests.engine.pipeline.test_search import COSTS, D, World, backend, with_lists

CODES_PAY = replace(
    COSTS, coarse_call=1e-9, coarse_value_dense=1e-13, coarse_value_sparse=1e-13, coarse_depth_row=1e-12
)
SETTINGS = Settings()


def more(world: World, rows: int) -> None:
    rng = np.random.default_rng(world.next_row)
    for vector in rng.standard_normal((rows, D)).astype(np.float32):
        world.put(f"n{world.next_row}", vector[None], {})


def coded(world: World) -> None:
    while world.index.add_codes(backend()):
        pass


@pytest.fixture
def world() -> World:
    """All rows are in lists and have codes; a search of the lists takes as long as a scan of some 300 rows."""
    world = World("dot")
    more(world, 1000)
    world.index.costs = CODES_PAY
    with_lists(world, 1000, costs=CODES_PAY)
    coded(world)
    lists = world.index.lists
    assert lists is not None
    bands = [
        replace(one, settings=tuple((target, replace(own, seconds_b1=1.1e-5)) for target, own in one.settings))
        for one in lists.tuning.bands
    ]
    world.index.switch_lists(replace(lists, tuning=Tuning(bands, CODES_PAY)))
    return world


def test_rows_in_no_list_want_codes_once_they_make_searches_twice_as_long(world: World) -> None:
    world.index.costs = replace(CODES_PAY, coarse_call=1e-3)  # so that for scans of everything they are not wanted
    more(world, 200)
    assert not needs_codes(world.index, SETTINGS)
    more(world, 1200)
    assert needs_codes(world.index, SETTINGS)
    coded(world)
    assert not needs_codes(world.index, SETTINGS)
    world.index.costs = replace(world.index.costs, scan_call=1.0)
    assert not needs_codes(world.index, SETTINGS)  # whatever it costs to scan nothing


def test_they_want_none_where_the_settings_have_none_or_nothing_has_any(world: World) -> None:
    more(world, 1400)
    assert not needs_codes(world.index, Settings(coarse_codes="off"))
    world.index.coarse.codes = None
    world.index.costs = COSTS
    assert not needs_codes(world.index, SETTINGS)


def test_with_codes_they_take_a_smaller_share_of_searches(world: World) -> None:
    more(world, 1400)
    before = tail_share(world.index, SETTINGS)
    coded(world)
    assert 0 <= tail_share(world.index, SETTINGS) < before / 2
