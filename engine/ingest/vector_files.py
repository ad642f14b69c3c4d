"""Files of vectors and nothing else: .npy, and the dense files of big-ann-benchmarks (.fbin, .u8bin, .i8bin, .ibin)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HEADER_BYTES = 8
_ELEMENTS: dict[str, type[np.generic]] = {".u8bin": np.uint8, ".i8bin": np.int8, ".fbin": np.float32, ".ibin": np.int32}


def read_vectors(path: Path) -> npt.NDArray[Any]:
    """[n, d] of the suffix's element type, mapped from the file: uint32 n, uint32 d, then the rows, little-endian.

    Raises:
        ValueError: the file is of another size than its header says.
    """
    n, d = (int(one) for one in np.fromfile(path, "<u4", count=2))
    element = np.dtype(element_of(path))
    check_size(path, HEADER_BYTES + n * d * element.itemsize)
    return np.memmap(path, element, mode="r", offset=HEADER_BYTES, shape=(n, d))


def read_array(path: Path) -> npt.NDArray[Any]:
    """[n, d] of numbers, mapped from a .npy file.

    Raises:
        ValueError: the file holds something else.
    """
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise ValueError(f"{path.name} holds {array.dtype.name} {list(array.shape)}, not numbers [n, d]")
    return array


def element_of(path: Path) -> type[np.generic]:
    """
    Raises:
        ValueError: the suffix names none.
    """
    if path.suffix not in _ELEMENTS:
        raise ValueError(f"{path.name}: a file of vectors ends in one of {', '.join(_ELEMENTS)}")
    return _ELEMENTS[path.suffix]


def check_size(path: Path, wanted: int) -> None:
    """
    Raises:
        ValueError: the file has more or fewer bytes.
    """
    if path.stat().st_size != wanted:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, its header says {wanted}")
