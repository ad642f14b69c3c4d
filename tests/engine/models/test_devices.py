"""Which device encodes, without one: torch's device that only has shapes shows what would leave the GPU."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import DeviceOutOfMemory
from engine.models import devices
from engine.models.bundle import open_encoder
from engine.models.devices import SparedTower, encoding_device, on_gpu
from engine.models.encoder import TowerEncoder
from engine.models.folder import read_folder
from engine.models.protocol import EncodeDevice
from engine.models.tokenization import Tokenization
from engine.models.towers import TorchTower, TowerModule, to_host, trace, unfused
from engine.models.weights import load_weights
from engine.types import Float32Array, Int64Array
from tests.engine.models.folders import make_folder


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    devices._tell.cache_clear()


class Counted:
    """A tower whose embeddings are the lengths; ``error`` is raised while it is there."""

    engine = "counted"

    def __init__(self, device: EncodeDevice) -> None:
        self.device = device
        self.error: RuntimeError | None = None
        self.calls = 0

    def run(self, ids: Int64Array, lengths: Int64Array) -> Float32Array:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return np.repeat(lengths.astype(np.float32)[:, None], 2, axis=1)


IDS, LENGTHS = np.zeros((2, 3), np.int64), np.array([3, 1])


@pytest.mark.parametrize("family", ["bert", "mpnet"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_forward_leaves_its_device_neither_traced_nor_as_it_is(
    family: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    weights = load_weights(read_folder(make_folder(tmp_path, family=family)))
    module = TowerModule(weights, dtype).eval().to("meta")
    ids, lengths = (
        torch.zeros((3, 5), dtype=torch.int64, device="meta"),
        torch.ones(3, dtype=torch.int64, device="meta"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = trace(module, "meta")
    with torch.inference_mode():
        for forward in (module, traced):
            found = forward(ids, lengths)
            assert (found.device.type, found.dtype) == ("meta", torch.float32)
            assert found.shape == (3, weights.dimension)


def test_the_device_is_the_one_wanted_where_torch_has_a_use_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert encoding_device("cuda") == "cuda"
    assert encoding_device("cpu") == "cpu"


@pytest.mark.parametrize(
    ("cuda", "why"), [(None, "is a CPU build"), ("13.0", "is built for CUDA 13.0 and sees no GPU")]
)
def test_without_a_gpu_for_torch_texts_are_encoded_on_the_cpu_which_is_told_once(
    cuda: str | None, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with caplog.at_level(logging.WARNING):
        assert [encoding_device("cuda") for _ in range(3)] == ["cpu"] * 3
    assert caplog.text.count("encoded on the CPU") == 1
    assert why in caplog.text


def test_the_version_is_the_same_whatever_device_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    folder = str(make_folder(tmp_path))
    asked, plain = open_encoder(folder, threads=1, device="cuda"), open_encoder(folder, threads=1)
    assert asked.version == plain.version
    assert (asked.device, asked.engine) == (plain.device, plain.engine) == ("cpu", "onnxruntime")


def test_a_gpu_that_takes_no_encoder_leaves_it_to_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    def no_room() -> Counted:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with caplog.at_level(logging.ERROR):
        assert on_gpu(no_room, lambda: Counted("cpu")).device == "cpu"
    assert "out of memory" in caplog.text


def test_a_gpu_that_fails_gives_way_to_the_cpu_and_no_batch_fails(caplog: pytest.LogCaptureFixture) -> None:
    first, spare = Counted("cuda"), Counted("cpu")
    tower = SparedTower(first, lambda: spare)
    tower.run(IDS, LENGTHS)
    assert (tower.device, spare.calls) == ("cuda", 0)
    first.error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            np.testing.assert_array_equal(tower.run(IDS, LENGTHS)[:, 0], LENGTHS)
    assert (tower.device, first.calls, spare.calls) == ("cpu", 2, 2)
    assert caplog.text.count("illegal memory access") == 1


def test_what_the_cpu_cannot_encode_either_is_no_fault_of_the_gpu() -> None:
    first, spare = Counted("cuda"), Counted("cpu")
    tower = SparedTower(first, lambda: spare)
    first.error, spare.error = RuntimeError("an id is out of range"), RuntimeError("an id is out of range")
    with pytest.raises(RuntimeError, match="out of range"):
        tower.run(IDS, LENGTHS)
    first.error = None
    tower.run(IDS, LENGTHS)
    assert tower.device == "cuda"


def test_a_batch_too_large_for_the_gpu_is_told_and_the_gpu_goes_on() -> None:
    first = Counted("cuda")
    tower = SparedTower(first, lambda: Counted("cpu"))
    first.error = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(DeviceOutOfMemory, match="out of memory"):
        tower.run(IDS, LENGTHS)
    first.error = None
    tower.run(IDS, LENGTHS)
    assert tower.device == "cuda"


def test_the_cost_of_texts_is_measured_again_on_the_device_that_takes_over(tmp_path: Path) -> None:
    first, spare = Counted("cuda"), Counted("cpu")
    tokenization = Tokenization.from_file(make_folder(tmp_path) / "tokenizer.json", max_tokens=8, prompts={})
    encoder = TowerEncoder(
        SparedTower(first, lambda: spare),
        tokenization,
        version="1",
        dimension=2,
        metric="cosine",
        attention_share=0.0,
    )
    before = encoder.profile
    first.error = RuntimeError("CUDA error")
    encoder.forward([[1, 2]])
    assert (encoder.device, encoder.profile is before) == ("cpu", False)
    assert spare.calls > 1


def test_without_fusers_embeddings_are_the_same(tmp_path: Path) -> None:
    tower = TorchTower(load_weights(read_folder(make_folder(tmp_path))), "float32")
    expected = tower.run(IDS, LENGTHS)
    with unfused():
        np.testing.assert_allclose(tower.run(IDS, LENGTHS), expected, atol=1e-6)


def test_embeddings_come_back_as_numpy() -> None:
    np.testing.assert_array_equal(to_host(torch.ones((2, 3))), np.ones((2, 3), np.float32))
