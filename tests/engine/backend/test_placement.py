"""What of a version lies on a device, and what it would be for one that is not open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.backend.placement import ListShape, forecast, list_bytes, most_rows, placement, row_bytes
from engine.backend.protocol import SEGMENT_ROWS
from engine.types import VectorDtype
from kernels._cuda_lists import bytes_of
from kernels._cuda_rows import DeviceRows
from kernels.packed_lists import PackedLists
from tests.kernels.host_device import HostDevice

BYTES = st.integers(0, 1000)


@given(rows=BYTES, lists=BYTES, budget=BYTES)
def test_what_is_placed_fits_and_no_more_would(rows: int, lists: int, budget: int) -> None:
    where = placement(rows, lists, budget)
    taken = {"device": rows + lists, "lists": lists, "host": 0}[where]
    assert taken <= budget
    assert where == "device" or rows + lists > budget
    assert where != "host" or not 0 < lists <= budget
    assert where != "lists" or lists > 0


@given(rows=BYTES, lists=BYTES, budget=BYTES, more=BYTES)
def test_more_memory_never_takes_anything_off_the_device(rows: int, lists: int, budget: int, more: int) -> None:
    order = ("host", "lists", "device")
    assert order.index(placement(rows, lists, budget + more)) >= order.index(placement(rows, lists, budget))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize(("n", "d"), [(0, 8), (1, 3), (SEGMENT_ROWS, 384), (SEGMENT_ROWS + 1, 100)])
def test_bytes_of_rows_are_those_that_a_device_would_have(dtype: VectorDtype, n: int, d: int, tmp_path: Path) -> None:
    stored = np.dtype({"float16": np.float16, "bfloat16": np.uint16, "float32": np.float32}[dtype])
    rows = DeviceRows(HostDevice(tmp_path), dtype=stored, dimension=d)
    assert row_bytes(n, dimension=d, dtype=dtype) == rows.bytes_of(n)


def test_bytes_of_lists_are_about_those_that_a_device_would_have() -> None:
    rng = np.random.default_rng(1)
    n, nlist, d, code_bytes = 300_000, 500, 32, 8
    lists = PackedLists(np.zeros((16, 16, 2), np.float32), np.zeros((nlist, d), np.float32), "dot")
    codes = rng.integers(0, 256, (n, code_bytes)).astype(np.uint8)
    lists.append(rng.integers(0, nlist, n), codes, np.arange(n), np.zeros(n, np.float32))
    told = list_bytes(n, ListShape(nlist, code_bytes, d))
    assert abs(told - bytes_of(lists)) < 0.1 * bytes_of(lists)


@given(each=st.integers(1, 50), fixed=st.integers(0, 99), budget=st.integers(0, 10_000))
def test_the_most_rows_that_fit_are_found(each: int, fixed: int, budget: int) -> None:
    most = most_rows(lambda n: each * n + (fixed if n else 0), budget)
    assert most == max(0, (budget - fixed) // each)


def test_a_forecast_tells_when_all_then_when_lists_alone_stop_fitting() -> None:
    shape = ListShape(1024, 32, 128)
    told = forecast(1_000_000, dimension=128, dtype="float16", lists=shape, budget=1 << 30)
    assert told.placement == "device"
    assert told.rows_bytes == 16 * SEGMENT_ROWS * 256
    assert 1_000_000 < told.fits_until < told.lists_fit_until
    for n, where in ((told.fits_until, "device"), (told.fits_until + 1, "lists"), (told.lists_fit_until + 1, "host")):
        assert forecast(n, dimension=128, dtype="float16", lists=shape, budget=1 << 30).placement == where
    exact = forecast(10, dimension=128, dtype="float16", lists=None, budget=1)
    assert (exact.placement, exact.fits_until, exact.list_bytes, exact.lists_fit_until) == ("host", 0, 0, 0)
