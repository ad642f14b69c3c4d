"""One server for the tests that leave nothing behind, and one of its own for those that need it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.client import RetrievalClient
from engine.types import GeoPoint, Item, Timestamp, Visibility
from tests.e2e.serving import Serving, a_client, serving, text_schema, vector_schema

DAY = 86_400_000_000

THINGS = [
    Item(
        "apple",
        {"title": "red apple", "body": "sweet fruit from the garden"},
        {"colour": "red", "tags": ("fruit", "food"), "remote": True, "price": 3, "posted": Timestamp(1 * DAY)},
    ),
    Item(
        "cherry",
        {"title": "red cherry", "body": "small sweet fruit"},
        {"colour": "red", "tags": ("fruit",), "remote": False, "price": 9, "posted": Timestamp(2 * DAY)},
    ),
    Item(
        "engine",
        {"title": "fire engine", "body": "big red truck with a ladder"},
        {"colour": "red", "tags": (), "weight": 12.5, "place": GeoPoint(52.52, 13.40), "secret": "yes"},
    ),
    Item("sky", {"title": "blue sky", "body": "air above the garden"}, {"colour": "blue", "clicks": 7}),
    Item("nothing", {"title": "empty words"}, {}),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with the collections ``things`` (text) and ``points`` (vectors), shared by a module's tests."""
    with serving(tmp_path_factory.mktemp("served")) as running:
        with a_client(running) as client:
            fill(client)
        yield running


@pytest.fixture
def client(server: Serving) -> Iterator[RetrievalClient]:
    with a_client(server) as connected:
        yield connected


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path / "own") as running:
        yield running


def fill(client: RetrievalClient) -> None:
    """Create ``things`` and ``points`` and wait until their items are searchable."""
    client.create_collection(text_schema())
    client.upsert("things", THINGS, visibility=Visibility.SEARCHABLE)
    client.create_collection(vector_schema())
    grid = [Item(n, {}, {"rank": n}, np.array([n, 0, 0, 0], np.float32)) for n in range(20)]
    client.upsert("points", grid, visibility=Visibility.SEARCHABLE)
