"""What an IVF-PQ index may look like for so many rows, and the files of a tuned one. Pure choices; knows no faiss."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.errors import CorruptData
from engine.files import file_sha256, write_synced
from engine.index.drift import Drift
from engine.index.tuning import Costs, Tuning
from engine.types import Metric

FORMAT = 4
"""1 had codes of 8 bits a part (docs/adr/0004-four-bit-codes.md), 2 settings of counts (0006-ended-by-score.md), 3 told
no work: such images are trained anew."""

_CENTROIDS = 16
"""Of a part, by a 4-bit code."""
_LEAST_ROWS = 10_000
"""Fewer are scanned in a fraction of a millisecond."""
_ROWS_PER_CENTROID = 39
"""faiss's least number of training rows for each centroid; fewer leave centroids that stand for single rows."""
_SAMPLE_PER_LIST = 64
_SAMPLE_BYTES = 512 << 20
_VALUES_PER_CODE_BYTE = (16, 8, 4, 2)
_LISTS_PER_ROOT = (1, 2, 4)

_GUESSED_DEPTH = 100
_GUESSED_PROBED_SHARE = 1 / 16
_GUESSED_CODE_COST = 1 / 8
"""Before anything is trained: a code costs about an eighth of the row it stands for (measured at d = 128 to 784)."""
_GAIN_TO_TRAIN = 2.0


def list_counts(n_live: int) -> tuple[int, ...]:
    """Numbers of lists worth trying, ascending: powers of two from the root of the rows on, if rows can train them."""
    root = 1 << max(0, math.ceil(math.log2(math.sqrt(max(n_live, 1)))))
    trainable = max(1, n_live // _ROWS_PER_CENTROID)
    counts = tuple(root * factor for factor in _LISTS_PER_ROOT if root * factor <= trainable)
    return counts or (1 << int(math.log2(trainable)),)


def code_sizes(dimension: int, allowed: Sequence[int]) -> tuple[int, ...]:
    """Code lengths in bytes worth trying, ascending, out of those that the index allows."""
    wanted = [dimension / values for values in _VALUES_PER_CODE_BYTE]
    nearest = {min(allowed, key=lambda size: abs(math.log(size / want))) for want in wanted}
    return tuple(sorted(nearest))


def sample_rows(n_live: int, nlist: int, dimension: int) -> int:
    """Rows to train on: some for each centroid, within a bound of memory."""
    wanted = max(_SAMPLE_PER_LIST * nlist, _LEAST_ROWS)
    affordable = max(_SAMPLE_BYTES // (4 * dimension), _ROWS_PER_CENTROID * _CENTROIDS)
    return min(n_live, wanted, affordable)


def worth_training(n_rows: int, dimension: int, costs: Costs) -> bool:
    """Whether lists are predicted to be clearly faster than an exact scan, and the rows can train them."""
    if n_rows < _LEAST_ROWS:
        return False
    scanned = list_counts(n_rows)[0] + _CENTROIDS + int(n_rows * _GUESSED_PROBED_SHARE * _GUESSED_CODE_COST)
    lists = 2 * costs.scan_call + scanned * dimension * costs.scan_value_dense
    rescore = costs.gather_call + _GUESSED_DEPTH * dimension * costs.gather_value
    return _GAIN_TO_TRAIN * (lists + rescore) <= costs.scan_seconds(n_rows, n_rows, dimension)


def min_rows_to_train(dimension: int, costs: Costs) -> int:
    """The least number of rows that is ``worth_training``."""
    low, high = 0, _LEAST_ROWS
    while not worth_training(high, dimension, costs):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if worth_training(middle, dimension, costs) else (middle, high)
    return high


def climb(candidates: Sequence[int], start: int, seconds: Callable[[int], float]) -> int:
    """The fastest of ``candidates``, walking from ``start`` while it gets faster; the smaller one of equals.

    Nothing is measured twice, and what lies beyond a slower neighbour is never measured.
    """
    place = candidates.index(start)
    best = seconds(start)
    for step in (-1, 1):
        moved = False
        while 0 <= place + step < len(candidates):
            found = seconds(candidates[place + step])
            if found > best or (found == best and step > 0):
                break
            place, best, moved = place + step, found, True
        if moved:
            break
    return candidates[place]


@dataclass(frozen=True, slots=True)
class IvfPqImage:
    """A tuned index as it lies on disk: ``ivfpq-<id>.faiss`` and, written last, ``ivfpq-<id>.json`` with all of this.

    ``n_rows`` rows are in its lists, of which ``live_rows`` were alive; ``sequence`` is what they were read at.
    ``drift``: with the rows that were added since training, or None: images did not always tell.
    """

    id: str
    dimension: int
    metric: Metric
    nlist: int
    code_bytes: int
    n_rows: int
    live_rows: int
    trained_rows: int
    sequence: int
    seed: int
    index_sha256: str
    build_seconds: float
    tuning: Tuning
    drift: Drift | None = None

    def to_json(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in self.__slots__ if name not in ("tuning", "drift")}
        drift = {"drift": asdict(self.drift)} if self.drift else {}
        return {"format": FORMAT, **fields, **drift, "tuning": self.tuning.to_json()}

    @classmethod
    def from_json(cls, stored: Any) -> IvfPqImage:
        """The inverse of ``to_json``.

        Raises:
            CorruptData: it is not what ``to_json`` gives, or of another format.
        """
        if not isinstance(stored, dict) or stored.get("format") != FORMAT:
            told = stored.get("format") if isinstance(stored, dict) else type(stored).__name__
            raise CorruptData(f"index image format: {told!r} where {FORMAT} is known")
        fields = {name: one for name, one in stored.items() if name not in ("format", "tuning", "drift")}
        drift = Drift.from_json(stored["drift"]) if "drift" in stored else None
        try:
            image = cls(**fields, tuning=Tuning.from_json(stored["tuning"]), drift=drift)
        except (KeyError, TypeError) as error:
            raise CorruptData(f"not an index image: {error!r}") from error
        counts = (image.nlist, image.code_bytes, image.n_rows, image.live_rows, image.sequence, image.dimension)
        if not all(isinstance(one, int) for one in counts):
            raise CorruptData(f"not an index image: a count among {counts} is no whole number")
        return image


def index_path(folder: Path, image_id: str) -> Path:
    """Where the lists lie, in faiss CPU format."""
    return folder / f"ivfpq-{image_id}.faiss"


def image_path(folder: Path, image_id: str) -> Path:
    """Where the tuning lies; the image exists once this file does."""
    return folder / f"ivfpq-{image_id}.json"


def write_image(folder: Path, image: IvfPqImage) -> None:
    """Put the JSON beside lists that are written and synced already: the last step of a build."""
    write_synced(image_path(folder, image.id), json.dumps(image.to_json(), indent=1))


def read_image(folder: Path, image_id: str) -> IvfPqImage:
    """What the JSON says, once the lists beside it are found to be those it was written for.

    Raises:
        CorruptData: a file is missing, is no image or was changed.
    """
    path = image_path(folder, image_id)
    try:
        image = IvfPqImage.from_json(json.loads(path.read_text("utf-8")))
        digest = file_sha256(index_path(folder, image_id))
    except (OSError, ValueError) as error:
        raise CorruptData(f"{path}: {error}", path=path) from error
    if digest != image.index_sha256:
        raise CorruptData(f"{index_path(folder, image_id)} has sha256 {digest}, not {image.index_sha256}", path=path)
    return image


def image_ids(folder: Path) -> list[str]:
    """Images in the folder, newest first by the sequence they were read at, then by id; unreadable ones last."""
    ids = [path.stem.removeprefix("ivfpq-") for path in folder.glob("ivfpq-*.json")]
    return sorted(ids, key=lambda one: (_sequence(folder, one), one), reverse=True)


def remove_image(folder: Path, image_id: str) -> None:
    """Remove the image if it is there, its JSON first."""
    image_path(folder, image_id).unlink(missing_ok=True)
    index_path(folder, image_id).unlink(missing_ok=True)


def _sequence(folder: Path, image_id: str) -> int:
    try:
        return int(json.loads(image_path(folder, image_id).read_text("utf-8"))["sequence"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1
