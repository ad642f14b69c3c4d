from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.models import towers
from engine.models.bundle import open_encoder
from engine.models.folder import read_folder
from engine.models.protocol import Encoder
from engine.models.weights import load_weights
from tests.engine.models.folders import SPECIAL, WORDS, make_folder

WINDOWS = st.lists(
    st.lists(st.integers(len(SPECIAL), len(SPECIAL) + len(WORDS) - 1), min_size=1, max_size=16), min_size=1, max_size=20
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return open_encoder(str(folder), threads=1)


@given(windows=WINDOWS)
def test_embeddings_come_in_the_order_of_their_windows(encoder: Encoder, windows: list[list[int]]) -> None:
    alone = np.concatenate([encoder.forward([window]) for window in windows])
    together = encoder.forward(windows)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_embeddings_have_length_one_if_the_model_normalises(normalize: bool, tmp_path: Path) -> None:
    opened = open_encoder(str(make_folder(tmp_path, normalize=normalize)), threads=1)
    lengths = np.linalg.norm(opened.forward([[7, 8], [9, 10, 11]]), axis=1)
    assert np.allclose(lengths, 1, atol=1e-5) == normalize


def test_bfloat16_is_close_to_float32(folder: Path, encoder: Encoder) -> None:
    rng = np.random.default_rng(3)
    windows = [rng.integers(len(SPECIAL), 99, size=length).tolist() for length in (1, 3, 9, 16, 16)]
    halved = open_encoder(str(folder), threads=1, compute_dtype="bfloat16").forward(windows)
    assert halved.dtype == np.float32
    cosines = np.einsum("nd,nd->n", halved, encoder.forward(windows))
    assert cosines.min() > 0.99
    assert np.abs(halved - encoder.forward(windows)).max() > 1e-5


def test_no_windows_give_no_embeddings(encoder: Encoder) -> None:
    assert encoder.forward([]).shape == (0, encoder.dimension)


def test_estimates_add_up_and_grow_with_the_length(encoder: Encoder) -> None:
    parts = [encoder.estimate_seconds([length]) for length in (2, 5, 16)]
    assert 0 < parts[0] < parts[1] < parts[2]
    assert encoder.estimate_seconds([2, 5, 16]) == pytest.approx(sum(parts))


def test_without_torchscript_torch_still_computes(
    folder: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(towers.torch.jit, "trace")
    tower = towers.TorchTower(load_weights(read_folder(folder)), "float32")
    assert tower.engine == "torch"
    ids, lengths = np.array([[7, 8, 9]]), np.array([3])
    np.testing.assert_allclose(tower.run(ids, lengths), encoder.forward([[7, 8, 9]]), atol=1e-5)


def test_tracing_warns_nobody(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert towers.TorchTower(load_weights(read_folder(folder)), "float32").engine == "torch-jit"
