"""What tests of several devices' kernels share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernels import _cuda_lists, reference_lists
from kernels.packed_lists import BLOCK_ROWS


@pytest.fixture(scope="module")
def small_waves() -> Iterator[None]:
    """Waves of 2 lists or 3 blocks, so that a few hundred rows are many rounds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference_lists, "WAVE_LISTS", 2)
        patch.setattr(reference_lists, "ROUND_BLOCKS", 3)
        changed = {"ROUND_BLOCKS": "ROUND_BLOCKS=3", "WAVE_LISTS": "WAVE_LISTS=2"}
        defines = [changed.get(one.split("=")[0], one) for one in _cuda_lists.DEFINES]
        patch.setattr(_cuda_lists, "DEFINES", tuple(defines))
        patch.setattr(_cuda_lists, "_ROUND_ROWS", 3 * BLOCK_ROWS)
        patch.setattr(_cuda_lists, "_ROUNDS_KEPT", 1)
        yield
