"""What a Sentence-Transformers folder says of itself: modules, pooling, prompts, lengths. Reads JSON, never weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from engine.errors import ConfigError
from engine.models.protocol import Role
from engine.types import Metric

Pooling: TypeAlias = Literal["mean", "cls", "max", "mean_sqrt_len_tokens"]
DenseActivation: TypeAlias = Literal["Identity", "Tanh", "ReLU", "Sigmoid"]

FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "mpnet")
_ROBERTA_FAMILIES = ("roberta", "xlm-roberta", "camembert")
"""Their positions start behind the padding id."""

_METRICS: dict[str, Metric] = {"cosine": "cosine", "dot": "dot", "dot_product": "dot", "euclidean": "l2"}
_PROMPT_NAMES: dict[Role, tuple[str, ...]] = {"query": ("query",), "item": ("document", "passage", "corpus")}
_LENGTH_FILES = (
    "sentence_bert",
    "sentence_roberta",
    "sentence_distilbert",
    "sentence_camembert",
    "sentence_xlm-roberta",
)
_LENGTH_KEYS = {"max_seq_length", "do_lower_case", "transformer_task", "modality_config", "module_output_name"}


class BeyondTowers(Exception):
    """The folder is sound but asks for more than ``engine.models.towers`` computes; never leaves ``engine.models``."""


@dataclass(frozen=True, slots=True)
class DenseSpec:
    """A linear layer behind the pooling; its weights lie in ``folder``."""

    folder: Path
    activation: DenseActivation


@dataclass(frozen=True, slots=True)
class FolderSpec:
    """``config`` is the transformer's own; ``files`` are all whose content can change a vector."""

    root: Path
    transformer: Path
    config: Mapping[str, Any]
    poolings: tuple[Pooling, ...]
    dense: tuple[DenseSpec, ...]
    normalizes: bool
    prompts: Mapping[Role, str]
    lower_case: bool
    max_tokens: int
    metric: Metric

    @property
    def position_offset(self) -> int:
        """Rows of the position table that no token uses."""
        return position_offset(self.config)


def position_offset(config: Mapping[str, Any]) -> int:
    """MPNet's is fixed whatever its config says, as in transformers."""
    if config["model_type"] == "mpnet":
        return 2
    return int(config.get("pad_token_id", 1)) + 1 if config["model_type"] in _ROBERTA_FAMILIES else 0


def read_folder(root: Path) -> FolderSpec:
    """Read a folder's JSON files.

    Raises:
        ConfigError: it is no Sentence-Transformers folder, or one of its files is not what it should be.
        BeyondTowers: it has modules, a model family or settings that need sentence_transformers itself.
    """
    modules = _modules(root)
    transformer = root / modules[0][1]
    config = _family_config(transformer)
    poolings, dense, normalizes = _tail(root, modules[1:])
    settings = _length_settings(transformer)
    prompts, metric = read_prompts_and_metric(root)
    if not (transformer / "tokenizer.json").is_file():
        raise BeyondTowers("it has no tokenizer.json")
    return FolderSpec(
        root=root,
        transformer=transformer,
        config=config,
        poolings=poolings,
        dense=dense,
        normalizes=normalizes,
        prompts=prompts,
        lower_case=bool(settings.get("do_lower_case", False)),
        max_tokens=_max_tokens(transformer, config, settings),
        metric=metric,
    )


def read_prompts_and_metric(root: Path) -> tuple[dict[Role, str], Metric]:
    """Of config_sentence_transformers.json; a role without a prompt of its own has the default one, if there is one."""
    path = root / "config_sentence_transformers.json"
    config = read_json(path) if path.is_file() else {}
    prompts = {name: text or "" for name, text in (config.get("prompts") or {}).items()}
    default = prompts.get(config.get("default_prompt_name") or "", "")
    name = config.get("similarity_fn_name") or "cosine"
    if name not in _METRICS:
        raise ConfigError(f"{path}: similarity_fn_name is {name!r}, which is not one of {sorted(_METRICS)}")
    by_role = {
        role: next((prompts[one] for one in names if one in prompts), default) for role, names in _PROMPT_NAMES.items()
    }
    return by_role, _METRICS[name]


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error


def _modules(root: Path) -> list[tuple[str, str]]:
    """(class name, path) of each module."""
    path = root / "modules.json"
    if not path.is_file():
        raise ConfigError(f"{root} is not a Sentence-Transformers folder: it has no modules.json")
    modules = []
    for module in read_json(path):
        package, _, name = str(module["type"]).rpartition(".")
        if package.split(".")[0] != "sentence_transformers":
            raise BeyondTowers(f"its module {module['type']} is not Sentence-Transformers' own")
        modules.append((name, str(module["path"])))
    if not modules or modules[0][0] != "Transformer":
        raise BeyondTowers("its first module is not a Transformer")
    return modules


def _family_config(transformer: Path) -> Mapping[str, Any]:
    config: Mapping[str, Any] = read_json(transformer / "config.json")
    if config.get("model_type") not in FAMILIES:
        raise BeyondTowers(f"its model_type {config.get('model_type')!r} is not one of {FAMILIES}")
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("is_decoder"):
        raise BeyondTowers("its positions are not absolute or it is a decoder")
    return config


def _tail(root: Path, modules: list[tuple[str, str]]) -> tuple[tuple[Pooling, ...], tuple[DenseSpec, ...], bool]:
    """The modules behind the transformer: Pooling, then any Dense, then perhaps Normalize."""
    names = [name for name, _ in modules]
    n_dense = names.count("Dense")
    if names not in (["Pooling"] + ["Dense"] * n_dense + end for end in ([], ["Normalize"])):
        raise BeyondTowers(f"its modules {names} are not Pooling, Dense, Normalize in that order")
    dense = tuple(_dense(root / path) for name, path in modules if name == "Dense")
    return _poolings(root / modules[0][1]), dense, names[-1] == "Normalize"


def _poolings(folder: Path) -> tuple[Pooling, ...]:
    config = read_json(folder / "config.json")
    if not config.get("include_prompt", True):
        raise BeyondTowers("its pooling leaves the prompt out")
    modes = config.get("pooling_mode") or [
        name.removeprefix("pooling_mode_")
        .replace("_tokens", "")
        .replace("_token", "")
        .replace("sqrt_len", "sqrt_len_tokens")
        for name, is_on in config.items()
        if name.startswith("pooling_mode_") and is_on
    ]
    modes = [modes] if isinstance(modes, str) else modes
    if not modes or any(mode not in get_args(Pooling) for mode in modes):
        raise BeyondTowers(f"its pooling {modes} is not of {get_args(Pooling)}")
    order: tuple[Pooling, ...] = ("cls", "max", "mean", "mean_sqrt_len_tokens")
    return tuple(modes) if "pooling_mode" in config else tuple(mode for mode in order if mode in modes)


def _dense(folder: Path) -> DenseSpec:
    config = read_json(folder / "config.json")
    activation = str(config.get("activation_function", "")).rpartition(".")[2]
    if activation not in get_args(DenseActivation):
        raise BeyondTowers(f"its Dense activation {activation!r} is not of {get_args(DenseActivation)}")
    names = {config.get("module_input_name"), config.get("module_output_name")} - {None, "sentence_embedding"}
    if names:
        raise BeyondTowers(f"its Dense reads or writes {sorted(names)}")
    return DenseSpec(folder, activation)  # type: ignore[arg-type]  # one of the literals, as just checked


def _length_settings(transformer: Path) -> Mapping[str, Any]:
    for name in _LENGTH_FILES:
        path = transformer / f"{name}_config.json"
        if path.is_file():
            settings: Mapping[str, Any] = read_json(path)
            unknown = {name for name, value in settings.items() if value} - _LENGTH_KEYS
            if unknown or settings.get("transformer_task", "feature-extraction") != "feature-extraction":
                raise BeyondTowers(f"{path.name} asks for {sorted(unknown) or settings['transformer_task']}")
            return settings
    return {}


def _max_tokens(transformer: Path, config: Mapping[str, Any], settings: Mapping[str, Any]) -> int:
    """What the folder asks for, else what its tokenizer allows, and never more than there are positions."""
    positions = int(config["max_position_embeddings"]) - position_offset(config)
    asked = settings.get("max_seq_length")
    path = transformer / "tokenizer_config.json"
    if asked is None and path.is_file():
        asked = read_json(path).get("model_max_length")
    return positions if asked is None else min(positions, int(asked))
