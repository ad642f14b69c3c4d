"""Row images: the files that rows and columns are read back from at a start, faster than from the store.

An image is ``rows-<sequence>.image``, arrays one after the other, and ``rows-<sequence>.json``, written last, which
says of what they are. It is never changed. Knows no store: whether an image fits one is for the caller to say.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import CorruptData
from engine.files import write_synced
from engine.index.columns import Columns
from engine.index.lexical import PREFIX
from engine.index.row_arrays import Arrays, columns_from, rows_from
from engine.index.rows import Rows
from engine.types import AttributeSpec, AttributeType, IdType

FORMAT = 1

_ALIGNED_BYTES = 64
_BLOCK_BYTES = 1 << 20
_DTYPES = frozenset({"uint8", "uint16", "int32", "int64", "uint64", "float32", "float64"})

Report = Callable[[str, float], None]
"""Told the stage, and how much of it is done, in [0, 1]; what it raises ends the work."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an array [n] of the file lies."""

    name: str
    dtype: str
    n: int
    offset: int


@dataclass(frozen=True, slots=True)
class Origin:
    """What an image was made from: a version's rows [0, n_rows) as of a sequence number, and the schema they had.

    ``analysis``: how texts became terms, empty where none did.
    """

    sequence: int
    version: str
    generation: int
    id_type: IdType
    n_rows: int
    attributes: tuple[AttributeSpec, ...]
    analysis: str = ""


@dataclass(frozen=True, slots=True)
class RowImage:
    """What an image's JSON says; ``sha256`` is that of the file beside it."""

    origin: Origin
    sha256: str
    places: tuple[Place, ...]

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, default=lambda kind: kind.value, indent=1)

    @classmethod
    def from_json(cls, text: str) -> RowImage:
        """The inverse of ``to_json``.

        Raises:
            CorruptData: it is not what ``to_json`` gives, or of another format.
            ValueError: it is no JSON.
        """
        stored = json.loads(text)
        if not isinstance(stored, dict) or stored.get("format") != FORMAT:
            told = stored.get("format") if isinstance(stored, dict) else type(stored).__name__
            raise CorruptData(f"row image format: {told!r} where {FORMAT} is known")
        try:
            told = stored["origin"]
            specs = tuple(AttributeSpec(**{**one, "type": AttributeType(one["type"])}) for one in told["attributes"])
            origin = Origin(**{**told, "attributes": specs})
            return cls(origin, stored["sha256"], tuple(Place(**place) for place in stored["places"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptData(f"not a row image: {error!r}") from error


def arrays_path(folder: Path, sequence: int) -> Path:
    return folder / f"rows-{sequence:016d}.image"


def image_path(folder: Path, sequence: int) -> Path:
    """The image exists once this file does."""
    return folder / f"rows-{sequence:016d}.json"


def image_sequences(folder: Path) -> list[int]:
    """Of the images in the folder, the newest first."""
    told = (path.stem.removeprefix("rows-") for path in folder.glob("rows-*.json"))
    return sorted((int(one) for one in told if one.isdecimal()), reverse=True)


def write_arrays(
    folder: Path, origin: Origin, arrays: Arrays, *, report: Report = lambda stage, done: None
) -> RowImage:
    """The first of two steps: the file of an image that does not exist yet, synced.

    Raises:
        OSError: the disk refused.
    """
    path = arrays_path(folder, origin.sequence)
    aside = path.with_name(path.name + ".new")
    digest, places, offset = hashlib.sha256(), [], 0
    with aside.open("wb") as file:
        for number, (name, array) in enumerate(arrays.items()):
            report("writing rows", number / len(arrays))
            places.append(Place(name, array.dtype.name, len(array), offset))
            for block in _blocks(array):
                # Its content may change meanwhile: what is hashed and what is written are the same copy.
                digest.update(block)
                file.write(block)
                offset += len(block)
        file.flush()
        os.fsync(file.fileno())
    # Of an image that was found damaged, and is made again.
    image_path(folder, origin.sequence).unlink(missing_ok=True)
    aside.replace(path)
    return RowImage(origin, digest.hexdigest(), tuple(places))


def name_image(folder: Path, image: RowImage) -> None:
    """The second step: the image exists from now on. Remove all others but the newest that is older.

    Whoever calls has seen to it that the store survives power loss with all that the image has: no image must know
    more than the store does, or name a sequence number that may be given once more.

    Raises:
        OSError: the disk refused.
    """
    sequence = image.origin.sequence
    write_synced(image_path(folder, sequence), image.to_json())
    older = [one for one in image_sequences(folder) if one < sequence][:1]
    kept = {path(folder, one).name for one in (sequence, *older) for path in (arrays_path, image_path)}
    # What tells of an image goes before what it tells of.
    for found in sorted(folder.glob("rows-*"), key=lambda path: path.suffix != ".json"):
        if found.name not in kept:
            found.unlink(missing_ok=True)


def read_image(folder: Path, sequence: int) -> RowImage:
    """What the JSON says.

    Raises:
        CorruptData: it cannot be read, or is no image of that sequence.
    """
    path = image_path(folder, sequence)
    try:
        image = RowImage.from_json(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptData(f"{path}: {error}", path=path) from error
    if image.origin.sequence != sequence:
        raise CorruptData(f"{path} is an image of sequence {image.origin.sequence}", path=path)
    return image


def load_image(folder: Path, image: RowImage) -> tuple[Rows, Columns, Arrays]:
    """Rows, columns, and the arrays that ``lexical_from`` makes an index of postings of, where there were any.

    Raises:
        CorruptData: the file is missing or is not the one that was written.
    """
    path, origin = arrays_path(folder, image.origin.sequence), image.origin
    try:
        content = np.fromfile(path, np.uint8)
        digest = hashlib.sha256(content.data).hexdigest()
        if digest != image.sha256:
            raise CorruptData(f"{path} has sha256 {digest}, not {image.sha256}", path=path)
        arrays = {place.name: _array(content, place) for place in image.places}
        rows = rows_from(arrays, origin.id_type, origin.n_rows)
        columns = columns_from(arrays, origin.attributes, origin.n_rows)
        return rows, columns, {name: array for name, array in arrays.items() if name.startswith(PREFIX)}
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise CorruptData(f"{path}: {error!r}", path=path) from error


def _blocks(array: npt.NDArray[Any]) -> Iterator[bytes]:
    flat = array.view(np.uint8)
    for first in range(0, len(flat), _BLOCK_BYTES):
        yield flat[first : first + _BLOCK_BYTES].tobytes()
    yield bytes(-len(flat) % _ALIGNED_BYTES)


def _array(content: npt.NDArray[np.uint8], place: Place) -> npt.NDArray[Any]:
    if place.dtype not in _DTYPES:
        raise ValueError(f"{place.name} is of type {place.dtype}")
    dtype = np.dtype(place.dtype)
    array = content[place.offset : place.offset + place.n * dtype.itemsize].view(dtype)
    if len(array) != place.n:
        raise ValueError(f"{place.name} has {len(array)} values where {place.n} are told")
    return array
