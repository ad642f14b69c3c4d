from __future__ import annotations

import numpy as np
import pytest

from engine.ingest.texts import text_hash, vector_hashes
from engine.types import Item, Schema, TextField


@pytest.mark.parametrize("analysed", [0, 2])
def test_vectors_together_have_the_hashes_that_they_have_alone(analysed: int) -> None:
    schema = Schema("c", dimension=3, text_fields=tuple(TextField(f"f{n}", analyser="plain") for n in range(analysed)))
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert vector_hashes(vectors, schema) == [text_hash(Item("a", vector=one), schema) for one in vectors]
