"""Segments of postings merged by a thread, beside searches, which see the parts until the whole takes their place."""

from __future__ import annotations

import asyncio

from engine.index.lexical import LexicalIndex, Merge
from engine.index.version_index import VersionIndex
from engine.pipeline.searcher import SearchLane


async def merge_postings(lane: SearchLane, index: VersionIndex) -> bool:
    """Merge the segments that are due; whether there were any by the time that the lane was asked."""
    begun = await lane.call(lambda: _begun(index))
    if begun is None:
        return False
    lexical, merge = begun
    try:
        segment = await asyncio.to_thread(merge.run)
    except BaseException:
        lane.post(lexical.give_up_merge)
        raise
    await lane.call(lambda: lexical.switch(merge, segment))
    return True


def _begun(index: VersionIndex) -> tuple[LexicalIndex, Merge] | None:
    """In the search lane's thread. A compaction may give the index other postings before these are merged.

    Pages of a moment find all rows that were seen then: those of moments that are kept by now are, and a moment that
    comes while segments are merged needs none that is left out, for what lives then lived when the merge began, or is
    in no segment of it.
    """
    lexical = index.lexical
    merge = lexical.begin_merge(index.rows.needed_bits()) if lexical is not None else None
    return (lexical, merge) if lexical is not None and merge is not None else None
