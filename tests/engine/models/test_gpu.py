"""Encoding on a GPU, for `make test-gpu`: the same embeddings as on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.models import bundle
from engine.models.bundle import open_encoder
from engine.models.folder import BeyondTowers
from engine.models.protocol import ComputeDtype, EncodeDevice
from tests.engine.models.folders import SPECIAL, make_folder

pytestmark = pytest.mark.gpu

DEVICES: tuple[EncodeDevice, EncodeDevice] = ("cuda", "cpu")


def windows() -> list[list[int]]:
    rng = np.random.default_rng(3)
    return [rng.integers(len(SPECIAL), 99, size=length).tolist() for length in (1, 3, 9, 16, 16, 2, 7)]


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "mpnet"])
def test_embeddings_are_those_of_the_cpu(family: str, tmp_path: Path) -> None:
    folder = str(make_folder(tmp_path, family=family))
    gpu, cpu = (open_encoder(folder, threads=1, device=device) for device in DEVICES)
    assert (gpu.device, gpu.version) == ("cuda", cpu.version)
    for _ in range(3):  # an executor that profiles would change at the second and third call
        np.testing.assert_allclose(gpu.forward(windows()), cpu.forward(windows()), atol=1e-5)


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_embeddings_of_minilm_are_those_of_the_cpu(dtype: ComputeDtype, atol: float) -> None:
    texts = ["a nurse", "someone who looks after servers and writes what they need", "welder " * 300]
    found = []
    for device in DEVICES:
        encoder = open_encoder("minilm", compute_dtype=dtype, threads=4, device=device)
        assert encoder.device == device
        found.append(encoder.forward([one.windows[0] for one in encoder.tokenize(texts)]))
    np.testing.assert_allclose(*found, atol=atol)


def test_a_folder_that_only_sentence_transformers_opens_is_encoded_on_the_gpu_too(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    folder = make_folder(tmp_path)
    why = BeyondTowers("this test says so")
    gpu, cpu = (bundle._open_sentence(folder, "1", "float32", why, device) for device in DEVICES)
    assert gpu.device == "cuda"
    np.testing.assert_allclose(gpu.forward(windows()), cpu.forward(windows()), atol=1e-5)
