from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import ConfigError
from engine.models.batches import pad
from engine.models.bundle import minilm_folder, open_encoder
from engine.models.folder import read_folder
from engine.models.protocol import Encoder, Role
from engine.models.weights import load_weights
from engine.types import Float32Array
from tests.engine.models.folders import WORDS, make_folder

Oracle = Callable[[Path], Any]

TEXTS = ("", "w1", "w3 w4 w5", " ".join(WORDS[:12]), " ".join(WORDS[:60]), "no such words w7", "w9 " * 14)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    """Opens a folder with sentence-transformers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = pytest.importorskip(
            "sentence_transformers", reason="sentence-transformers is the oracle of this test"
        )
    return lambda folder: library.SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def embed(encoder: Encoder, texts: Sequence[str], role: Role = "item") -> Float32Array:
    return encoder.forward([one.windows[0] for one in encoder.tokenize(texts, role=role)])


def assert_equal_to(oracle: Oracle, folder: Path) -> None:
    """ONNX Runtime's tower and torch's own, both against the library."""
    from engine.models.towers import TorchTower

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = oracle(folder).encode(list(TEXTS))
    encoder = open_encoder(str(folder), threads=1)
    assert encoder.engine == "onnxruntime"
    np.testing.assert_allclose(embed(encoder, TEXTS), expected, atol=1e-5, rtol=1e-5)
    windows = [one.windows[0] for one in encoder.tokenize(TEXTS)]
    tower = TorchTower(load_weights(read_folder(folder)), "float32")
    assert tower.engine == "torch-jit"
    np.testing.assert_allclose(tower.run(*pad(windows)), expected, atol=1e-5, rtol=1e-5)
    assert encoder.dimension == expected.shape[1]


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "distilbert", "mpnet"])
def test_each_family_equals_sentence_transformers(family: str, oracle: Oracle, tmp_path: Path) -> None:
    assert_equal_to(oracle, make_folder(tmp_path, family=family))


@pytest.mark.parametrize("poolings", [["cls"], ["max"], ["mean_sqrt_len"], ["cls", "mean"]])
def test_each_pooling_equals_sentence_transformers(poolings: list[str], oracle: Oracle, tmp_path: Path) -> None:
    assert_equal_to(oracle, make_folder(tmp_path, poolings=poolings))


@pytest.mark.parametrize("activation", ["Tanh", "Identity", "ReLU", "Sigmoid"])
def test_a_dense_layer_equals_sentence_transformers(activation: str, oracle: Oracle, tmp_path: Path) -> None:
    assert_equal_to(oracle, make_folder(tmp_path, dense=activation, normalize=activation == "Tanh"))


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_other_activations_equal_sentence_transformers(activation: str, oracle: Oracle, tmp_path: Path) -> None:
    assert_equal_to(oracle, make_folder(tmp_path, config={"hidden_act": activation}))


def test_without_a_length_of_its_own_a_folder_is_cut_where_its_tokenizer_says(oracle: Oracle, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, max_tokens=None)
    assert open_encoder(str(folder), threads=1).max_tokens == 30
    assert_equal_to(oracle, folder)


def test_prompts_by_role_equal_those_of_sentence_transformers(oracle: Oracle, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, card={"prompts": {"query": "w90 w91 ", "document": "w92 "}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = oracle(folder)
        expected = {"query": model.encode_query(list(TEXTS)), "item": model.encode_document(list(TEXTS))}
    encoder = open_encoder(str(folder), threads=1)
    roles: tuple[Role, ...] = ("query", "item")
    for role in roles:
        np.testing.assert_allclose(embed(encoder, TEXTS, role), expected[role], atol=1e-5)
    assert np.abs(expected["query"] - expected["item"]).max() > 0.01


def test_minilm_equals_sentence_transformers(oracle: Oracle) -> None:
    try:
        folder = minilm_folder()
    except ConfigError as error:
        pytest.skip(str(error))
    texts = ("Vitamin D and bone density", "", "naïve café 中文 🙂", "long " * 400, "a", "the quick brown fox " * 9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = oracle(folder).encode(list(texts))
    encoder = open_encoder("minilm", threads=2)
    np.testing.assert_allclose(embed(encoder, texts), expected, atol=1e-5)
    assert (encoder.dimension, encoder.max_tokens, encoder.metric) == (384, 256, "cosine")


def test_a_folder_with_another_pooling_is_opened_by_sentence_transformers(oracle: Oracle, tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    config = '{"word_embedding_dimension": 32, "pooling_mode_weightedmean_tokens": true}'
    (folder / "1_Pooling" / "config.json").write_text(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = oracle(folder).encode(list(TEXTS))
        encoder = open_encoder(str(folder), threads=1)
        found = embed(encoder, TEXTS)
    assert encoder.engine == "sentence-transformers"
    np.testing.assert_allclose(found, expected, atol=1e-5)
