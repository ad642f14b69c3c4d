"""An embedding-based retrieval engine. Importing this loads nothing heavy; names are resolved on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.client import RetrievalClient
    from engine.errors import EngineError

    __version__: str

__all__ = ["EngineError", "RetrievalClient", "__version__"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    if name == "RetrievalClient":
        from engine.client import RetrievalClient

        return RetrievalClient
    if name == "EngineError":
        from engine.errors import EngineError

        return EngineError
    raise AttributeError(f"module 'engine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    """The installed distribution's version; a source tree that was never installed says so."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ebr-engine")
    except PackageNotFoundError:
        return "0+not.installed"
