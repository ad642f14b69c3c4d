"""Tiny Sentence-Transformers folders with random weights, in the layout that the libraries write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from engine.types import Float32Array

SPECIAL = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")
WORDS = tuple(f"w{number}" for number in range(95))
D, HEADS, INNER, LAYERS, POSITIONS = 32, 4, 48, 2, 40

_SETTINGS: dict[str, Any] = {
    "hidden_size": D,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "intermediate_size": INNER,
    "max_position_embeddings": POSITIONS,
    "vocab_size": len(SPECIAL) + len(WORDS),
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "pad_token_id": 1,
}
_DISTILBERT: dict[str, Any] = {
    "dim": D,
    "n_heads": HEADS,
    "n_layers": LAYERS,
    "hidden_dim": INNER,
    "max_position_embeddings": POSITIONS,
    "vocab_size": len(SPECIAL) + len(WORDS),
    "activation": "gelu",
    "pad_token_id": 1,
}
_ARCHITECTURES = {
    "bert": "BertModel",
    "roberta": "RobertaModel",
    "xlm-roberta": "XLMRobertaModel",
    "distilbert": "DistilBertModel",
    "mpnet": "MPNetModel",
}


def make_folder(
    root: Path,
    *,
    family: str = "bert",
    poolings: Sequence[str] = ("mean",),
    dense: str | None = None,
    normalize: bool = True,
    max_tokens: int | None = 16,
    config: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    seed: int = 7,
) -> Path:
    """``dense`` is an activation, ``card`` config_sentence_transformers.json, ``config`` overrides the model's own."""
    rng = np.random.default_rng(seed)
    settings = _DISTILBERT if family == "distilbert" else _SETTINGS
    _write_json(
        root / "config.json",
        {"model_type": family, "architectures": [_ARCHITECTURES[family]], **settings, **(config or {})},
    )
    save_file(_weights(family, rng), root / "model.safetensors", metadata={"format": "pt"})
    _write_tokenizer(root)
    _write_json(root / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    _write_json(root / "config_sentence_transformers.json", dict(card or {}))
    modules = ["Transformer", "Pooling", *(["Dense"] if dense else []), *(["Normalize"] if normalize else [])]
    _write_json(root / "modules.json", [_module(number, name) for number, name in enumerate(modules)])
    modes = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens")
    chosen = {
        f"pooling_mode_{mode}": any(mode in (one, f"{one}_token", f"{one}_tokens") for one in poolings)
        for mode in modes
    }
    _write_json(root / "1_Pooling" / "config.json", {"word_embedding_dimension": D, **chosen})
    if dense:
        _write_dense(root / "2_Dense", len(poolings) * D, dense, rng)
    return root


def _module(number: int, name: str) -> dict[str, Any]:
    path = "" if name == "Transformer" else f"{number}_{name}"
    return {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")


def _write_tokenizer(root: Path) -> None:
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=5)
    tokenizer.save(str(root / "tokenizer.json"))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    lengths = {"model_max_length": 30, "model_input_names": ["input_ids", "attention_mask"]}
    _write_json(root / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **special, **lengths})


def _write_dense(folder: Path, d_in: int, activation: str, rng: np.random.Generator) -> None:
    name = f"torch.nn.modules.{'linear' if activation == 'Identity' else 'activation'}.{activation}"
    _write_json(
        folder / "config.json", {"in_features": d_in, "out_features": 24, "bias": True, "activation_function": name}
    )
    save_file({"linear.weight": _random(rng, 24, d_in), "linear.bias": _random(rng, 24)}, folder / "model.safetensors")


def _random(rng: np.random.Generator, *shape: int) -> Float32Array:
    return (0.3 * rng.standard_normal(shape)).astype(np.float32)


_BERT_NAMES = {
    "layers": "encoder.layer",
    "square": (*(f"attention.self.{one}" for one in ("query", "key", "value")), "attention.output.dense"),
    "norms": ("attention.output.LayerNorm", "output.LayerNorm"),
    "inner": ("intermediate.dense", "output.dense"),
}
_NAMES: dict[str, dict[str, Any]] = {
    "distilbert": {
        "layers": "transformer.layer",
        "square": tuple(f"attention.{one}_lin" for one in ("q", "k", "v", "out")),
        "norms": ("sa_layer_norm", "output_layer_norm"),
        "inner": ("ffn.lin1", "ffn.lin2"),
    },
    "mpnet": {
        **_BERT_NAMES,
        "square": tuple(f"attention.attn.{one}" for one in "qkvo"),
        "norms": ("attention.LayerNorm", "output.LayerNorm"),
    },
}


def _weights(family: str, rng: np.random.Generator) -> dict[str, Float32Array]:
    names = _NAMES.get(family, _BERT_NAMES)
    tensors = {
        "embeddings.word_embeddings.weight": _random(rng, len(SPECIAL) + len(WORDS), D),
        "embeddings.position_embeddings.weight": _random(rng, POSITIONS, D),
        **_affine(rng, "embeddings.LayerNorm", D),
    }
    if family not in _NAMES:
        tensors["embeddings.token_type_embeddings.weight"] = _random(rng, 2, D)
    if family == "mpnet":
        tensors["encoder.relative_attention_bias.weight"] = _random(rng, 32, HEADS)
    for number in range(LAYERS):
        at, (up, down) = f"{names['layers']}.{number}", names["inner"]
        for name in names["square"]:
            tensors |= _affine(rng, f"{at}.{name}", D, D)
        for name in names["norms"]:
            tensors |= _affine(rng, f"{at}.{name}", D)
        tensors |= _affine(rng, f"{at}.{up}", INNER, D) | _affine(rng, f"{at}.{down}", D, INNER)
    return tensors


def _affine(rng: np.random.Generator, name: str, *shape: int) -> dict[str, Float32Array]:
    return {f"{name}.weight": _random(rng, *shape) + (len(shape) == 1), f"{name}.bias": _random(rng, shape[0])}
