from __future__ import annotations

import importlib
import inspect
from importlib.metadata import version

import pytest

import engine


def test_the_package_offers_exactly_its_all() -> None:
    assert sorted(engine.__all__) == ["EngineError", "RetrievalClient", "__version__"]
    assert {name for name in dir(engine) if not name.startswith("_")} - _submodules() == {
        "EngineError",
        "RetrievalClient",
    }


@pytest.mark.parametrize("module", ["engine", "engine.client"])
def test_every_public_name_resolves(module: str) -> None:
    imported = importlib.import_module(module)
    assert imported.__all__
    for name in imported.__all__:
        assert getattr(imported, name) is not None


def test_what_the_client_defines_in_public_is_in_its_all() -> None:
    client = importlib.import_module("engine.client")
    defined = {
        name
        for name, value in vars(client).items()
        if not name.startswith("_") and inspect.isclass(value) and value.__module__.startswith("engine.client")
    }
    assert defined <= set(client.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = engine.Nonsense  # type: ignore[attr-defined]


def test_the_version_is_the_distribution_s() -> None:
    assert engine.__version__ == version("ebr-engine")


def _submodules() -> set[str]:
    """Modules below engine that earlier tests imported: Python binds them in the package."""
    return {name for name, value in vars(engine).items() if inspect.ismodule(value)} | {"annotations", "TYPE_CHECKING"}
