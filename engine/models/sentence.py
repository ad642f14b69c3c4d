"""Folders that only sentence_transformers understands, behind the same seam. Imports it when called, and only then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.models.folder import BeyondTowers, read_prompts_and_metric
from engine.models.protocol import ComputeDtype, EncodeDevice
from engine.models.tokenization import Tokenization
from engine.threads import size_torch
from engine.types import Float32Array, Int64Array


class SentenceTower:
    """Implements ``engine.models.protocol.Tower``; each operator takes the GIL: slow beside a busy event loop."""

    engine = "sentence-transformers"

    def __init__(self, model: Any, device: EncodeDevice = "cpu") -> None:
        self.device = device
        self._model = model

    def run(self, ids: Int64Array, lengths: Int64Array) -> Float32Array:
        import torch

        from engine.models.towers import to_device, to_host

        with torch.inference_mode():
            tokens, counts = to_device(ids, self.device), to_device(lengths, self.device)
            mask = torch.arange(ids.shape[1], device=tokens.device)[None, :] < counts[:, None]
            features = {"input_ids": tokens, "attention_mask": mask.long()}
            return to_host(self._model(features)["sentence_embedding"].float())


def load_sentence_tower(
    root: Path, compute_dtype: ComputeDtype, why: BeyondTowers, *, device: EncodeDevice = "cpu"
) -> tuple[SentenceTower, Tokenization, int]:
    """The tower, its tokenization and its dimension; local files only.

    Raises:
        ConfigError: sentence_transformers is not installed or cannot open the folder, or the tokenizer is no fast one.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigError(f"{root} needs sentence-transformers, which is not installed, as {why}") from error
    size_torch()
    if device == "cuda":
        from engine.models.towers import require_float32

        require_float32()
    try:
        model = SentenceTransformer(str(root), device=device, local_files_only=True).eval()
    except Exception as error:
        raise ConfigError(f"sentence-transformers cannot open {root}: {error}") from error
    tokenizer = getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None)
    if tokenizer is None or not model.max_seq_length:
        raise ConfigError(f"{root} has no fast tokenizer or no max_seq_length")
    prompts, _ = read_prompts_and_metric(root)
    tokenization = Tokenization(tokenizer, max_tokens=model.max_seq_length, prompts=prompts)
    dimension = model.get_embedding_dimension()
    assert dimension is not None
    if compute_dtype == "bfloat16":
        model = model.bfloat16()
    return SentenceTower(model, device), tokenization, dimension
