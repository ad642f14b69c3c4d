"""The rows that were seen at an earlier moment, as searches want them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.index.masks import RowMask
from engine.index.rows import Rows, rows_of_spans
from engine.types import Int64Array, ItemId
from kernels.cpu_filters import clear_rows, set_rows


@dataclass(frozen=True, slots=True, eq=False)
class RowView:
    """``seen``: the rows of that moment; ``changed``: all rows of the items that were shown or hidden since."""

    rows: Rows
    seen: RowMask
    changed: Int64Array

    def rows_of(self, ids: Sequence[ItemId] | npt.NDArray[np.uint64]) -> Int64Array:
        """The rows that items had then, and those they have now."""
        own = self.rows.ids[self.changed]
        wanted = set(ids.tolist() if isinstance(ids, np.ndarray) else ids)
        is_wanted = np.fromiter((one in wanted for one in own.tolist()), np.bool_, len(own))
        return np.unique(np.concatenate([self.rows.rows_of(ids), self.changed[is_wanted]]))


def view_of(rows: Rows, position: int, n_rows: int) -> RowView:
    """The moment at which there were ``n_rows`` rows and the log of what was shown had come to ``position``."""
    assert rows.shown.holds(position)
    bits = rows.alive.copy()
    items, counts, were_seen = rows.shown.since(position)
    set_rows(bits, rows_of_spans(items[were_seen], counts[were_seen]))
    clear_rows(bits, rows_of_spans(items[~were_seen], counts[~were_seen]))
    clear_rows(bits, np.arange(n_rows, rows.n_rows))
    return RowView(rows, RowMask(bits, int(np.bitwise_count(bits).sum())), rows_of_spans(items, counts))
