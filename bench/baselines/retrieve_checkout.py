"""The public reproduction of LiNR in Triton, rmnigm/retrieve (Apache-2.0), run from a checkout that lies beside ours.

Nothing of it is here. Its interface is that of its last commits: what it does not have is told and left out.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.baselines.linr import Clauses

Search = Callable[[Tensor, Tensor], Tensor]
"""Of queries [B, d] and what they ask for, [C, B]: rows [B, k]."""


class NoCheckout(RuntimeError):
    """The message says what is missing, in one line."""


def searches(folder: Path, items: Tensor, clauses: Clauses, *, k: int, pool: int) -> dict[str, Search]:
    """Its V1, V2 and V3 over the items, filtered by exact attributes.

    Raises:
        NoCheckout: the folder is no checkout, or one with another interface.
    """
    modules, filters = _modules(folder)
    attributes = clauses.attributes.T.unsqueeze(2).contiguous()
    reverse = torch.tensor(clauses.is_reverse, device=items.device)
    made: dict[str, Search] = {}
    try:
        for name, module, more in (
            ("v1", "LiNRV1", {}),
            ("v2", "LiNRV2", {}),
            ("v3", "LiNRV3", {"candidate_pool": pool}),
        ):
            index = getattr(modules, module)(k, filter=filters.ExactAttributeFilter(), **more)
            index.register_index(items, attributes, reverse)
            made[name] = _search(index)
    except (AttributeError, TypeError, ValueError) as error:
        raise NoCheckout(f"{folder} has another interface: {error}") from error
    return made


def _search(index: Any) -> Search:
    return lambda queries, asked: index(queries, asked.T.contiguous())[0]


def _modules(folder: Path) -> tuple[Any, Any]:
    source = folder / "retrieve" / "src"
    if not (source / "retrieve").is_dir():
        raise NoCheckout(f"{folder} is no checkout of rmnigm/retrieve: it has no retrieve/src/retrieve")
    sys.path.insert(0, str(source))
    try:
        names = ("retrieve.modules.linr", "retrieve.modules.filters")
        linr, filters = (importlib.import_module(name) for name in names)
    except ImportError as error:
        raise NoCheckout(f"{folder} cannot be imported: {error}") from error
    finally:
        sys.path.remove(str(source))
    return linr, filters
