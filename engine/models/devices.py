"""Which device encodes, and what computes instead where that device fails while it serves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

from engine.errors import DeviceOutOfMemory
from engine.models.protocol import EncodeDevice, Tower
from engine.types import Float32Array, Int64Array

_log = logging.getLogger(__name__)


def encoding_device(wanted: EncodeDevice) -> EncodeDevice:
    """``wanted``, unless torch has no use of a GPU, which is told once. Loads torch for ``cuda`` alone."""
    if wanted == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    cuda = torch.version.cuda
    is_seen = f"is built for CUDA {cuda} and sees no GPU" if cuda else "is a CPU build"
    _tell(f"texts are encoded on the CPU: torch {torch.__version__} {is_seen}")
    return "cpu"


@cache
def _tell(why: str) -> None:
    """However many encoders are opened."""
    _log.warning("%s", why)


def on_gpu(make: Callable[[], Tower], make_spare: Callable[[], Tower]) -> Tower:
    """A GPU's tower, with its spare; the spare at once where the GPU has no room for it or fails already."""
    try:
        return SparedTower(make(), make_spare)
    except RuntimeError as error:
        _log.error("texts are encoded on the CPU: the GPU cannot take the encoder: %s", error)
        return make_spare()


class SparedTower:
    """A GPU's tower with a spare on the CPU, which is made when the first one fails at what the spare can do.

    Implements ``engine.models.protocol.Tower``. Encoding changes nothing, so a batch is simply encoded again and no
    caller notices.
    """

    def __init__(self, first: Tower, make_spare: Callable[[], Tower]) -> None:
        self._tower = first
        self._make_spare: Callable[[], Tower] | None = make_spare

    @property
    def engine(self) -> str:
        return self._tower.engine

    @property
    def device(self) -> EncodeDevice:
        return self._tower.device

    def run(self, ids: Int64Array, lengths: Int64Array) -> Float32Array:
        """
        Raises:
            DeviceOutOfMemory: the batch is too large for what the GPU has left; it goes on with the next one.
        """
        import torch

        if self._make_spare is None:
            return self._tower.run(ids, lengths)
        try:
            return self._tower.run(ids, lengths)
        except torch.OutOfMemoryError as error:
            raise DeviceOutOfMemory(f"the device has no memory left to encode with: {error}") from error
        except RuntimeError as error:
            spare = self._make_spare()
            embeddings = spare.run(ids, lengths)
            _log.error("the GPU failed while encoding; texts are encoded on the CPU from now on: %s", error)
            self._tower, self._make_spare = spare, None
            return embeddings
