"""Inverted lists of 4-bit product-quantiser codes, laid out for byte shuffles, that grow at the end without repacking.

A list is a chain of blocks of ``BLOCK_ROWS`` rows; blocks lie in chunks that never move. A block is one record: its
code bytes column by column, one byte of each row in a column, then the 32 row numbers and the 32 terms. Byte j of a
row's code has the number of its centroid in part 2j in the low half and in part 2j + 1 in the high half, as faiss has
it. A row's slot is its place in the block; within a column slots 0 to 15 have the even bytes and 16 to 31 the odd ones,
so that 16-bit sums of even and odd bytes are those of consecutive slots.

A slot without a row has a term that is not a number, and so no score.

Beside them lie the lists' centroids, as the kernels score them: panels of 16, each with a constant of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.arrays import Float32Array, Float64Array, Int32Array, Int64Array, Metric, Uint8Array
from kernels.huge_pages import huge_bytes

BLOCK_ROWS = 32
CHUNK_BLOCKS = 4096
PANEL_LISTS = 16
CENTROIDS = 16
"""Of each part: what 4 bits can tell apart."""

MOST_PARTS = 512
"""More would leave a table fewer than 127 levels: see ``table_levels``."""

MOST_STEPS = np.float32(2.0**100)
"""Of a table, to a unit of its products: so that a table of zeros has a scale too."""

SPARSE = 24
"""The mask is tested first while fewer than one row in so many passes: from there on a fair part of the blocks have no
row that does."""

FORESEEN_FROM = 64

ROW_WORK = 4
"""Of a row, where one that the mask hides with its whole block is a work of 1 (measured, docs/log.md)."""

LOOK_WORK = 8
"""Of a row whose features are looked at, as it may reach the limit with them: beside its own (measured)."""

RARITY = 2
"""So that settings tuned with random masks find as much where a filter goes against the query (docs/adr/0006)."""

FEWEST_DOUBLINGS = -16
"""Beyond it fewer rows that pass make no more difference to how far a query reaches."""

WINDOW_ROWS = 1024
"""About so many rows tell whether few pass: those the mask was asked about last."""

WAVE_LISTS, ROUND_BLOCKS = 64, 128
"""Of a wave, where lists are scanned many at a time: see ``reference_lists.scan_lists_in_waves``."""

BYTE_OF_SLOT: npt.NDArray[np.intp] = np.concatenate([np.arange(0, BLOCK_ROWS, 2), np.arange(1, BLOCK_ROWS, 2)])

_ROW_BYTES, _TERM_BYTES = 4, 4
_FIRST_CAPACITY = 64


def table_levels(n_parts: int) -> int:
    """The largest quantised table entry, such that one of each part can be summed in 16 bits."""
    return min(255, 65535 // n_parts)


class ProbeLimits(NamedTuple):
    """How far each of B queries goes: all arrays have its length.

    A query takes lists in the order of their centroids' scores, best first, and ends before the first list whose
    centroid scores less than the k-th best quantised score so far by more than ``reach * scale``; the scale makes that
    a number which means the same for all queries (``reference.query_scales``).

    Attributes:
        ks: int64, the k of the k-th best score.
        nprobes: int64, lists at most.
        reaches: float32; inf: the score ends nothing.
        slopes: float32, by how much the reach grows with each doubling of the lists scanned so far, less those that
            the mask hides: of the rows beside one that passes, in its list, a share passes too, and the lists are
            taken times that share. The more there are, the more others lie just as far, and may hold what is missed.
        shares: float64, of all rows those that pass the mask; 0 where that is not known. If fewer pass of the rows that
            the mask was asked about, the filter goes against the query and hides more than lists: how many times fewer,
            to the power of ``RARITY``, the lists are taken as well.
        near_slopes: float32, by how much the reach grows with each doubling of the share that passes of the rows beside
            one that passes, over that of all rows: where a filter keeps whole lists, it goes as far as without one.
        depths: int64, candidates at most.
        slacks: float32, how far below the k-th best quantised score a candidate may lie, times the scale; inf: any.
        budgets: int64, rows of work, as in ``Probed``. A query gives up where it is foreseen to have so many more, or
            would by now have had twice as many. Foreseen are lists of as much work as those so far, as many as lie
            within the reach as it is now: told after ``FORESEEN_FROM`` lists and each time that they have doubled, if
            the k-th best is known.
    """

    ks: Int64Array
    nprobes: Int64Array
    reaches: Float32Array
    slopes: Float32Array
    shares: Float64Array
    near_slopes: Float32Array
    depths: Int64Array
    slacks: Float32Array
    budgets: Int64Array

    def of(self, places: slice) -> ProbeLimits:
        """Those of some queries."""
        return self._replace(**{name: array[places] for name, array in self._asdict().items()})


def fixed_limits(n_queries: int, *, k: int, nprobe: int, depth: int) -> ProbeLimits:
    """So many lists and candidates for every query, whatever the scores."""
    return ProbeLimits(
        np.full(n_queries, k, np.int64),
        np.full(n_queries, nprobe, np.int64),
        np.full(n_queries, np.inf, np.float32),
        np.zeros(n_queries, np.float32),
        np.zeros(n_queries, np.float64),
        np.zeros(n_queries, np.float32),
        np.full(n_queries, depth, np.int64),
        np.full(n_queries, np.inf, np.float32),
        np.full(n_queries, np.iinfo(np.int64).max),
    )


class Probed(NamedTuple):
    """What each of B queries did, int64 each but the last: lists and rows scanned, candidates kept; gave up, bool.

    ``rows``: of the lists, whatever the mask hides of them. ``work``: as many of them as have cost the time; those of a
    block that none is scored of, as the mask was asked first, are a quarter each.
    """

    lists: Int64Array
    rows: Int64Array
    work: Int64Array
    candidates: Int64Array
    gave_up: npt.NDArray[np.bool_]


class PackedLists:
    """``codebook``: centroids float32 [M, 16, d / M] of the M parts of a vector, M even; ``codebook_by_part`` has the
    same as [M, d / M, 16]. ``centroids``: of the lists, float32 [nlist, d].

    With dot (and cosine) a code stands for the residual of a row to its list's centroid, whose score is added; with l2
    for the row itself, and a score lacks the query's own square, which changes no order.

    The lists' arrays are read by the kernels: ``first_blocks`` and ``sizes`` [nlist], ``next_blocks`` [blocks].
    ``end_row`` is above every row listed. Not to be changed while it is searched.
    """

    def __init__(self, codebook: Float32Array, centroids: Float32Array, metric: Metric) -> None:
        n_parts, n_centroids, width = codebook.shape
        nlist, d = centroids.shape
        assert n_centroids == CENTROIDS
        assert n_parts % 2 == 0
        assert 0 < n_parts <= MOST_PARTS
        assert d == n_parts * width
        self.codebook = np.ascontiguousarray(codebook, np.float32)
        self.codebook_by_part = np.ascontiguousarray(self.codebook.transpose(0, 2, 1))
        self.centroids = np.ascontiguousarray(centroids, np.float32)
        self.is_l2 = metric == "l2"
        squares = np.einsum("ld,ld->l", self.centroids, self.centroids)
        self.centroid_terms: Float32Array = -squares if self.is_l2 else np.zeros(nlist, np.float32)
        self.centroid_panels = _panels(self.centroids, self.centroid_terms)
        self.unit = np.float32(np.sqrt(np.square(codebook - codebook.mean(axis=1, keepdims=True)).mean()))
        self.chunks: list[Uint8Array] = []
        self.chunk_addresses: Int64Array = np.empty(0, np.int64)
        self.first_blocks: Int32Array = np.full(nlist, -1, np.int32)
        self.sizes: Int64Array = np.zeros(nlist, np.int64)
        self.n_rows = 0
        self.n_blocks = 0
        self.end_row = 0
        self._last_blocks: Int32Array = np.full(nlist, -1, np.int32)
        self._next: Int32Array = np.full(_FIRST_CAPACITY, -1, np.int32)
        self._numbers: Int32Array = np.full(_FIRST_CAPACITY, -1, np.int32)

    @property
    def numbers(self) -> Int32Array:
        """int32 [end_row]: the list of each row, -1 of those in none. A view, which appending leaves behind."""
        return self._numbers[: self.end_row]

    @property
    def nlist(self) -> int:
        return len(self.sizes)

    @property
    def code_bytes(self) -> int:
        """Of a row."""
        return len(self.codebook) // 2

    @property
    def n_columns(self) -> int:
        """Code bytes of a row in a block: even, for two columns are shuffled at once."""
        return -(-self.code_bytes // 2) * 2

    @property
    def record_bytes(self) -> int:
        return BLOCK_ROWS * (self.n_columns + _ROW_BYTES + _TERM_BYTES)

    @property
    def next_blocks(self) -> Int32Array:
        """The block after each, -1 after the last of a list."""
        return self._next[: self.n_blocks]

    @property
    def memory_bytes(self) -> int:
        """What is allocated, room to grow included."""
        fixed = 2 * self.codebook.nbytes + self.centroids.nbytes + self.centroid_panels.nbytes
        per_list = self.first_blocks.nbytes + self._last_blocks.nbytes + self.sizes.nbytes
        return sum(chunk.nbytes for chunk in self.chunks) + self._next.nbytes + self._numbers.nbytes + per_list + fixed

    def append(self, lists: Int64Array, codes: Uint8Array, rows: Int64Array, terms: Float32Array) -> None:
        """Add rows [m] to the ends of their lists [m], with their codes uint8 [m, code_bytes] and terms [m]."""
        if not len(rows):
            return
        assert 0 <= lists.min() <= lists.max() < self.nlist
        order = np.argsort(lists, kind="stable")
        ordered = lists[order]
        blocks, slots = self._places(ordered)
        for chunk in np.unique(blocks // CHUNK_BLOCKS):
            here = blocks // CHUNK_BLOCKS == chunk
            mine, at = order[here], (blocks[here] % CHUNK_BLOCKS, slots[here])
            columns, its_rows, its_terms = self.views(self.chunks[chunk])
            columns[at[0], : self.code_bytes, BYTE_OF_SLOT[at[1]]] = codes[mine]
            its_rows[at] = rows[mine]
            its_terms[at] = terms[mine]
        self.n_rows += len(rows)
        self.end_row = max(self.end_row, int(rows.max()) + 1)
        if self.end_row > len(self._numbers):
            grown = np.full(max(self.end_row, 2 * len(self._numbers)), -1, np.int32)
            grown[: len(self._numbers)] = self._numbers
            self._numbers = grown
        self._numbers[rows] = lists

    def views(self, chunk: Uint8Array) -> tuple[Uint8Array, Int32Array, Float32Array]:
        """Code bytes [blocks, columns, 32], rows int32 [blocks, 32] and terms float32 [blocks, 32] of a chunk."""
        n_codes = BLOCK_ROWS * self.n_columns
        n_rows = BLOCK_ROWS * _ROW_BYTES
        columns = chunk[:, :n_codes].reshape(len(chunk), self.n_columns, BLOCK_ROWS)
        return (
            columns,
            chunk[:, n_codes : n_codes + n_rows].view(np.int32),
            chunk[:, n_codes + n_rows :].view(np.float32),
        )

    def listed(self, number: int) -> tuple[Uint8Array, Int64Array, Float32Array]:
        """A list's codes uint8 [m, code_bytes], rows [m] and terms float32 [m], in the order they were added."""
        size = int(self.sizes[number])
        blocks = self._chain(number)
        codes = np.empty((len(blocks), BLOCK_ROWS, self.code_bytes), np.uint8)
        rows = np.empty((len(blocks), BLOCK_ROWS), np.int64)
        terms = np.empty((len(blocks), BLOCK_ROWS), np.float32)
        for place, block in enumerate(blocks):
            columns, its_rows, its_terms = self.views(self.chunks[block // CHUNK_BLOCKS])
            within = block % CHUNK_BLOCKS
            codes[place] = columns[within][: self.code_bytes, BYTE_OF_SLOT].T
            rows[place], terms[place] = its_rows[within], its_terms[within]
        return codes.reshape(-1, self.code_bytes)[:size], rows.reshape(-1)[:size], terms.reshape(-1)[:size]

    def _chain(self, number: int) -> list[int]:
        chain: list[int] = []
        block = int(self.first_blocks[number])
        while block >= 0:
            chain.append(block)
            block = int(self._next[block])
        return chain

    def _places(self, ordered: Int64Array) -> tuple[Int64Array, Int64Array]:
        """(block, slot) of each new row, given their lists in ascending order; makes the blocks that are missing."""
        lists, starts, counts = np.unique(ordered, return_index=True, return_counts=True)
        before = self.sizes[lists]
        full = -(-before // BLOCK_ROWS)
        missing = -(-(before + counts) // BLOCK_ROWS) - full
        first_new = self.n_blocks + np.cumsum(missing) - missing
        last = self._last_blocks[lists].astype(np.int64)
        self._chain_blocks(lists, first_new, missing)
        self.sizes[lists] += counts
        which = np.repeat(np.arange(len(lists)), counts)
        places = before[which] + np.arange(len(ordered)) - starts[which]
        turns = places // BLOCK_ROWS - full[which]
        return np.where(turns < 0, last[which], first_new[which] + turns), places % BLOCK_ROWS

    def _chain_blocks(self, lists: Int64Array, first_new: Int64Array, missing: Int64Array) -> None:
        """Append ``missing`` blocks from ``first_new`` on to the chain of each list."""
        end = self.n_blocks + int(missing.sum())
        while len(self.chunks) * CHUNK_BLOCKS < end:
            self.chunks.append(huge_bytes(CHUNK_BLOCKS * self.record_bytes).reshape(CHUNK_BLOCKS, -1))
            self.chunk_addresses = np.array([chunk.ctypes.data for chunk in self.chunks], np.int64)
        if end > len(self._next):
            grown = np.full(max(end, 2 * len(self._next)), -1, np.int32)
            grown[: len(self._next)] = self._next
            self._next = grown
        new = np.arange(self.n_blocks, end, dtype=np.int32)
        for chunk in np.unique(new // CHUNK_BLOCKS):
            self.views(self.chunks[chunk])[2][new[new // CHUNK_BLOCKS == chunk] % CHUNK_BLOCKS] = np.nan
        self._next[new] = new + 1
        grows = missing > 0
        lists, first, last = lists[grows], first_new[grows], (first_new + missing - 1)[grows]
        self._next[last] = -1
        started = self.first_blocks[lists] >= 0
        self._next[self._last_blocks[lists[started]]] = first[started]
        self.first_blocks[lists[~started]] = first[~started]
        self._last_blocks[lists] = last
        self.n_blocks = end


def _panels(centroids: Float32Array, terms: Float32Array) -> Float32Array:
    """Panels float32 [ceil(nlist / 16), d', 16]: 16 centroids side by side, below them their terms, for which a query
    has a 1. Beyond the last list terms are -inf; d' is a multiple of 4.
    """
    nlist, d = centroids.shape
    padded = np.zeros((-(-nlist // PANEL_LISTS) * PANEL_LISTS, -(-(d + 1) // 4) * 4), np.float32)
    padded[:nlist, :d], padded[:nlist, d], padded[nlist:, d] = centroids, terms, -np.inf
    return np.ascontiguousarray(padded.reshape(-1, PANEL_LISTS, padded.shape[1]).transpose(0, 2, 1))
