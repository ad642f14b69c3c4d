from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ConfigError
from engine.models import bundle
from engine.models.bundle import MINILM_SHA256, open_encoder
from tests.engine.models.folders import make_folder


def _install_minilm(monkeypatch: pytest.MonkeyPatch, package: Path | None) -> None:
    """Let the package be found at a folder of ours, or nowhere."""
    spec = None if package is None else ModuleSpec("minilm", None, origin=str(package / "__init__.py"))
    found = importlib.util.find_spec
    monkeypatch.setattr(
        bundle.importlib.util, "find_spec", lambda name: spec if name == bundle.MINILM_PACKAGE else found(name)
    )


def test_minilm_with_other_weights_is_refused_with_both_hashes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_folder(tmp_path / "model")
    _install_minilm(monkeypatch, tmp_path)
    with pytest.raises(ConfigError, match=rf"model.safetensors .* sha256 [0-9a-f]{{64}}, expected {MINILM_SHA256}"):
        open_encoder("minilm", threads=1)


def test_minilm_without_weights_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (make_folder(tmp_path / "model") / "model.safetensors").unlink()
    _install_minilm(monkeypatch, tmp_path)
    with pytest.raises(ConfigError, match="sha256 missing"):
        open_encoder("minilm", threads=1)


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    _install_minilm(monkeypatch, None)
    with pytest.raises(ConfigError, match=r"pip install 'ebr-engine\[minilm\]'"):
        open_encoder("minilm", threads=1)


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither 'minilm' nor a folder"):
        open_encoder(str(tmp_path / "nowhere"), threads=1)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no modules\.json"):
        open_encoder(str(tmp_path), threads=1)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        open_encoder(str(folder), threads=1)


def test_weights_cut_short_are_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="cannot read the weights"):
        open_encoder(str(folder), threads=1)


def test_a_metric_that_no_index_has_is_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, card={"similarity_fn_name": "manhattan"})
    with pytest.raises(ConfigError, match="similarity_fn_name is 'manhattan'"):
        open_encoder(str(folder), threads=1)


@pytest.mark.parametrize(
    ("name", "metric"), [("cosine", "cosine"), ("dot", "dot"), ("euclidean", "l2"), (None, "cosine")]
)
def test_the_metric_is_the_one_the_folder_names(name: str | None, metric: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, card={"similarity_fn_name": name})
    assert open_encoder(str(folder), threads=1).metric == metric


def test_weights_in_torch_s_own_format_give_the_same_vectors(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = make_folder(tmp_path / "a")
    other = Path(shutil.copytree(folder, tmp_path / "b"))
    torch.save(load_file(folder / "model.safetensors"), other / "pytorch_model.bin")
    (other / "model.safetensors").unlink()
    first, second = (open_encoder(str(one), threads=1) for one in (folder, other))
    np.testing.assert_array_equal(first.forward([[2, 7, 8, 3]]), second.forward([[2, 7, 8, 3]]))


def test_a_copy_of_a_folder_has_the_same_version(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    copy = Path(shutil.copytree(folder, tmp_path / "b"))
    (copy / "README.md").write_text("changes no vector")
    assert open_encoder(str(folder), threads=1).version == open_encoder(str(copy), threads=1).version


def test_the_version_changes_with_the_weights(tmp_path: Path) -> None:
    first = open_encoder(str(make_folder(tmp_path / "a", seed=1)), threads=1)
    second = open_encoder(str(make_folder(tmp_path / "b", seed=2)), threads=1)
    assert first.version != second.version


def test_the_version_changes_with_a_prompt_and_with_the_compute_dtype(tmp_path: Path) -> None:
    folder = str(make_folder(tmp_path / "a"))
    prompted = str(make_folder(tmp_path / "b", card={"prompts": {"query": "w1 "}}))
    versions = {
        open_encoder(folder, threads=1).version,
        open_encoder(folder, threads=1, compute_dtype="bfloat16").version,
        open_encoder(prompted, threads=1).version,
    }
    assert len(versions) == 3


def test_without_onnxruntime_torch_computes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = str(make_folder(tmp_path))
    expected = open_encoder(folder, threads=1).forward([[2, 7, 8, 3], [2, 9, 3]])
    found = importlib.util.find_spec
    monkeypatch.setattr(bundle.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    encoder = open_encoder(folder, threads=1)
    assert encoder.engine == "torch-jit"
    np.testing.assert_allclose(encoder.forward([[2, 7, 8, 3], [2, 9, 3]]), expected, atol=1e-5)


def test_a_folder_that_needs_sentence_transformers_says_so_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path)
    (folder / "tokenizer.json").unlink()
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(
        ConfigError, match=r"needs sentence-transformers, which is not installed, as it has no tokenizer"
    ):
        open_encoder(str(folder), threads=1)


def test_opening_in_float32_loads_neither_torch_nor_sentence_transformers(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    code = (
        "import sys; from engine.models.bundle import open_encoder; "
        f"open_encoder({str(folder)!r}, threads=1); "
        "print(sorted({'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
